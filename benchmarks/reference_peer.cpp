// One end of a measurement with the reference UDT library at its default settings.
//
//   receive PORT SECONDS           goodput, from the first byte on
//   send HOST PORT SECONDS         writes until it is ended
//   accept PORT COUNT              accepts connections and keeps them until it is ended
//   connect HOST PORT COUNT PARALLEL   opens and closes that many
//   hold HOST PORT COUNT           opens that many and keeps them until it is ended
//
// Prints "ready" when it listens, and its measurements as one line of JSON; the same
// as benchmarks/udt_peer.py, which explains them.

#include <algorithm>
#include <arpa/inet.h>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <udt/udt.h>
#include <unistd.h>
#include <vector>

static double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

static double cpu() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static long resident_bytes() {
  long size = 0, resident = 0;
  FILE *file = std::fopen("/proc/self/statm", "r");
  if (!file || std::fscanf(file, "%ld %ld", &size, &resident) != 2)
    std::_Exit(1);
  std::fclose(file);
  return resident * sysconf(_SC_PAGESIZE);
}

static void fail(const char *step) {
  std::fprintf(stderr, "%s: %s\n", step, UDT::getlasterror().getErrorMessage());
  std::_Exit(1);
}

static sockaddr_in address_of(const char *host, const char *port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(std::atoi(port));
  inet_pton(AF_INET, host, &address.sin_addr);
  return address;
}

static UDTSOCKET listener_on(const char *port) {
  UDTSOCKET listener = UDT::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = address_of("0.0.0.0", port);
  if (UDT::bind(listener, (sockaddr *)&address, sizeof address) == UDT::ERROR)
    fail("bind");
  if (UDT::listen(listener, 1024) == UDT::ERROR)
    fail("listen");
  std::puts("ready");
  std::fflush(stdout);
  return listener;
}

static UDTSOCKET accepted_by(UDTSOCKET listener) {
  sockaddr_in peer;
  int size = sizeof peer;
  UDTSOCKET accepted = UDT::accept(listener, (sockaddr *)&peer, &size);
  if (accepted == UDT::INVALID_SOCK)
    fail("accept");
  return accepted;
}

static UDTSOCKET connected_to(const sockaddr_in &address) {
  UDTSOCKET made = UDT::socket(AF_INET, SOCK_STREAM, 0);
  if (UDT::connect(made, (const sockaddr *)&address, sizeof address) == UDT::ERROR)
    fail("connect");
  return made;
}

static void receive(const char *port, double seconds) {
  UDTSOCKET socket = accepted_by(listener_on(port));
  std::vector<char> buffer(1 << 20);
  double began = 0, cpu_began = 0, at = 0;
  long long bytes = 0;
  do {
    int size = UDT::recv(socket, buffer.data(), buffer.size(), 0);
    if (size == UDT::ERROR)
      fail("recv");
    at = now();
    if (bytes == 0)
      began = at, cpu_began = cpu();
    bytes += size;
  } while (at - began < seconds);
  std::printf("{\"bytes\": %lld, \"seconds\": %f, \"cpu\": %f}\n", bytes, at - began,
              cpu() - cpu_began);
}

static void send(const sockaddr_in &address, double seconds) {
  UDTSOCKET socket = connected_to(address);
  std::vector<char> buffer(1 << 18, 'x');
  double began = now(), cpu_began = cpu();
  // Of its own, as a slow path may hold the other thread for longer.
  std::thread clock([=] {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    std::printf("{\"cpu\": %f, \"seconds\": %f}\n", cpu() - cpu_began, now() - began);
    std::fflush(stdout);
  });
  for (int sent = 0; sent != UDT::ERROR;) {
    int done = 0, size = buffer.size();
    while (done < size && sent != UDT::ERROR) {
      sent = UDT::send(socket, buffer.data() + done, size - done, 0);
      done += sent;
    }
  }
  clock.join();
}

static void accept(const char *port, int count) {
  UDTSOCKET listener = listener_on(port);
  long before = resident_bytes();
  for (int i = 0; i < count; ++i)
    accepted_by(listener);
  std::this_thread::sleep_for(std::chrono::seconds(1));
  std::printf("{\"memory\": %ld}\n", resident_bytes() - before);
}

static void connect(const sockaddr_in &address, int count, int parallel) {
  std::atomic<int> left(count);
  std::vector<double> times(count);
  std::vector<std::thread> threads;
  double began = now();
  for (int i = 0; i < parallel; ++i)
    threads.emplace_back([&] {
      for (int number; (number = --left) >= 0;) {
        double start = now();
        UDTSOCKET made = connected_to(address);
        times[number] = now() - start;
        UDT::close(made);
      }
    });
  for (auto &thread : threads)
    thread.join();
  double elapsed = now() - began;
  std::nth_element(times.begin(), times.begin() + count / 2, times.end());
  std::printf("{\"seconds\": %f, \"median\": %f}\n", elapsed, times[count / 2]);
}

static void hold(const sockaddr_in &address, int count) {
  connected_to(address);
  long before = resident_bytes();
  for (int i = 1; i < count; ++i)
    connected_to(address);
  std::this_thread::sleep_for(std::chrono::seconds(1));
  std::printf("{\"memory\": %ld}\n", resident_bytes() - before);
}

int main(int count, char **words) {
  std::string mode = count > 3 ? words[1] : "";
  UDT::startup();
  if (mode == "receive")
    receive(words[2], std::atof(words[3]));
  else if (mode == "accept")
    accept(words[2], std::atoi(words[3]));
  else if (mode == "send" && count == 5)
    send(address_of(words[2], words[3]), std::atof(words[4]));
  else if (mode == "connect" && count == 6)
    connect(address_of(words[2], words[3]), std::atoi(words[4]), std::atoi(words[5]));
  else if (mode == "hold" && count == 5)
    hold(address_of(words[2], words[3]), std::atoi(words[4]));
  else
    return 2;
  std::fflush(stdout);
  if (mode == "accept" || mode == "hold")
    pause();
  std::_Exit(0);
}
