// A peer made of the reference UDT library, for tests of interoperability.
//
// reference_peer client|listener|rendezvous LOCAL_PORT REMOTE_PORT
//                SEND_FILE RECEIVE_FILE RECEIVE_BYTES [MSS]
//
// Sends the one file and receives so many bytes into the other at the same time,
// then closes. Prints "ready" once its port is bound and "connected" when it is up.

#include <arpa/inet.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <udt/udt.h>
#include <vector>

static void fail(const char *step) {
  std::fprintf(stderr, "%s: %s\n", step, UDT::getlasterror().getErrorMessage());
  std::exit(1);
}

static void say(const char *word) {
  std::puts(word);
  std::fflush(stdout);
}

static sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  return address;
}

static void send_file(UDTSOCKET socket, const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> block(65536);
  while (file) {
    file.read(block.data(), block.size());
    int left = file.gcount(), done = 0;
    while (done < left) {
      int sent = UDT::send(socket, block.data() + done, left - done, 0);
      if (sent == UDT::ERROR)
        fail("send");
      done += sent;
    }
  }
}

static void receive_file(UDTSOCKET socket, const std::string &path, long bytes) {
  std::ofstream file(path, std::ios::binary);
  std::vector<char> block(65536);
  while (bytes > 0) {
    int received = UDT::recv(socket, block.data(), block.size(), 0);
    if (received == UDT::ERROR)
      fail("recv");
    file.write(block.data(), received);
    bytes -= received;
  }
}

int main(int count, char **arguments) {
  if (count < 7)
    return 2;
  const std::string mode = arguments[1];
  sockaddr_in local = loopback(std::atoi(arguments[2]));
  sockaddr_in remote = loopback(std::atoi(arguments[3]));
  UDT::startup();
  UDTSOCKET socket = UDT::socket(AF_INET, SOCK_STREAM, 0);
  if (count > 7) {
    int mss = std::atoi(arguments[7]);
    UDT::setsockopt(socket, 0, UDT_MSS, &mss, sizeof mss);
  }
  if (mode == "rendezvous") {
    bool yes = true;
    UDT::setsockopt(socket, 0, UDT_RENDEZVOUS, &yes, sizeof yes);
  }
  if (UDT::bind(socket, (sockaddr *)&local, sizeof local) == UDT::ERROR)
    fail("bind");
  if (mode == "listener") {
    if (UDT::listen(socket, 10) == UDT::ERROR)
      fail("listen");
    say("ready");
    sockaddr_in peer;
    int size = sizeof peer;
    UDTSOCKET accepted = UDT::accept(socket, (sockaddr *)&peer, &size);
    if (accepted == UDT::INVALID_SOCK)
      fail("accept");
    socket = accepted;
  } else {
    say("ready");
    if (UDT::connect(socket, (sockaddr *)&remote, sizeof remote) == UDT::ERROR)
      fail("connect");
  }
  say("connected");
  std::thread sender(send_file, socket, std::string(arguments[4]));
  receive_file(socket, arguments[5], std::atol(arguments[6]));
  sender.join();
  UDT::close(socket);
  UDT::cleanup();
  return 0;
}
