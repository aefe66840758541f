// A peer made of the reference UDT library, for tests of interoperability.
//
// reference_peer client|listener|rendezvous LOCAL_PORT REMOTE_PORT
//                SEND_FILE RECEIVE_FILE RECEIVE_BYTES [NAME=NUMBER ...]
//
// Sends the one file and receives so many bytes into the other at the same time, then
// closes; with 0 bytes to receive it reads until the far end closes. Prints "ready"
// once its port is bound and "connected" when it is up.
//
//   mss=N          largest packet
//   ipv6=1         over IPv6
//   connections=N  so many of them on the one port, one receive file each (FILE.0 ...)
//   messages=1     messages instead of a stream; in files each follows its length,
//                  4 bytes, big-endian
//   order=0        messages need not be delivered in order
//   ttl=N          their time to live in milliseconds
//   wait=1         read nothing until there is a line on standard input
//   then=1         after a rendezvous has carried its files: listen on the same port,
//                  and serve one connection as a listener does
//   rejected=1     succeed if, and only if, the far end rejects the connection

#include <arpa/inet.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <udt/udt.h>
#include <vector>

static std::map<std::string, int> options;

static int option(const char *name, int otherwise) {
  auto found = options.find(name);
  return found == options.end() ? otherwise : found->second;
}

static void fail(const char *step) {
  std::fprintf(stderr, "%s: %s\n", step, UDT::getlasterror().getErrorMessage());
  std::_Exit(1);
}

static void say(const char *word) {
  std::puts(word);
  std::fflush(stdout);
}

struct Address {
  sockaddr_storage storage{};
  int size;

  explicit Address(int port) {
    if (option("ipv6", 0)) {
      auto *address = (sockaddr_in6 *)&storage;
      address->sin6_family = AF_INET6;
      address->sin6_port = htons(port);
      address->sin6_addr = in6addr_loopback;
      size = sizeof *address;
    } else {
      auto *address = (sockaddr_in *)&storage;
      address->sin_family = AF_INET;
      address->sin_port = htons(port);
      address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      size = sizeof *address;
    }
  }
  sockaddr *pointer() { return (sockaddr *)&storage; }
};

static void send_stream(UDTSOCKET socket, std::ifstream &file) {
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

static void send_messages(UDTSOCKET socket, std::ifstream &file) {
  uint32_t length;
  while (file.read((char *)&length, sizeof length)) {
    std::vector<char> message(ntohl(length));
    file.read(message.data(), message.size());
    if (UDT::sendmsg(socket, message.data(), message.size(), option("ttl", -1),
                     option("order", 1)) == UDT::ERROR)
      fail("sendmsg");
  }
}

static void send_file(UDTSOCKET socket, std::string path) {
  std::ifstream file(path, std::ios::binary);
  if (option("messages", 0))
    send_messages(socket, file);
  else
    send_stream(socket, file);
}

static void receive_file(UDTSOCKET socket, std::string path, long bytes) {
  std::ofstream file(path, std::ios::binary);
  std::vector<char> block(option("messages", 0) ? 12 << 20 : 65536);
  const bool until_closed = bytes == 0;
  bool ending = false;
  if (option("wait", 0))
    std::getchar();
  while (until_closed || bytes > 0) {
    int received;
    if (option("messages", 0)) {
      received = UDT::recvmsg(socket, block.data(), block.size());
      if (received > 0) {
        uint32_t length = htonl(received);
        file.write((char *)&length, sizeof length);
      }
    } else {
      received = UDT::recv(socket, block.data(), block.size(), 0);
    }
    if (received == UDT::ERROR) {
      if (!until_closed)
        fail("recv");
      // A recvmsg() that waits when the far end closes tells so without what has
      // come before; the next one gives that.
      if (ending || !option("messages", 0))
        return;
      ending = true;
      continue;
    }
    file.write(block.data(), received);
    bytes -= received;
  }
}

static UDTSOCKET make_socket(const std::string &mode, Address &local) {
  const int type = option("messages", 0) ? SOCK_DGRAM : SOCK_STREAM;
  UDTSOCKET socket = UDT::socket(local.storage.ss_family, type, 0);
  int mss = option("mss", 0);
  if (mss)
    UDT::setsockopt(socket, 0, UDT_MSS, &mss, sizeof mss);
  bool rendezvous = mode == "rendezvous";
  UDT::setsockopt(socket, 0, UDT_RENDEZVOUS, &rendezvous, sizeof rendezvous);
  if (UDT::bind(socket, local.pointer(), local.size) == UDT::ERROR)
    fail("bind");
  if (mode == "listener" && UDT::listen(socket, 10) == UDT::ERROR)
    fail("listen");
  return socket;
}

static UDTSOCKET accept_one(UDTSOCKET listener) {
  sockaddr_storage peer;
  int size = sizeof peer;
  UDTSOCKET accepted = UDT::accept(listener, (sockaddr *)&peer, &size);
  if (accepted == UDT::INVALID_SOCK)
    fail("accept");
  return accepted;
}

static void carry(const std::vector<UDTSOCKET> &sockets, const std::string &send,
                  const std::string &receive, long bytes) {
  std::vector<std::thread> threads;
  for (size_t i = 0; i < sockets.size(); i++) {
    std::string path = receive;
    if (option("connections", 0))
      path += "." + std::to_string(i);
    threads.emplace_back(send_file, sockets[i], send);
    threads.emplace_back(receive_file, sockets[i], path, bytes);
  }
  for (auto &thread : threads)
    thread.join();
}

int main(int count, char **arguments) {
  if (count < 7)
    return 2;
  const std::string mode = arguments[1], send = arguments[4], receive = arguments[5];
  const long bytes = std::atol(arguments[6]);
  for (int i = 7; i < count; i++) {
    const std::string text = arguments[i];
    const size_t equals = text.find('=');
    options[text.substr(0, equals)] = std::atoi(text.c_str() + equals + 1);
  }
  Address local(std::atoi(arguments[2])), remote(std::atoi(arguments[3]));
  UDT::startup();
  const int number = option("connections", 1);
  std::vector<UDTSOCKET> sockets;
  if (mode == "listener") {
    UDTSOCKET listener = make_socket(mode, local);
    say("ready");
    for (int i = 0; i < number; i++)
      sockets.push_back(accept_one(listener));
  } else {
    for (int i = 0; i < number; i++)
      sockets.push_back(make_socket(mode, local));
    say("ready");
    for (UDTSOCKET socket : sockets) {
      bool up = UDT::connect(socket, remote.pointer(), remote.size) != UDT::ERROR;
      if (option("rejected", 0))
        std::_Exit(!up && UDT::getlasterror().getErrorCode() ==
                              CUDTException::ECONNREJ
                       ? 0
                       : 1);
      if (!up)
        fail("connect");
    }
  }
  say("connected");
  carry(sockets, send, receive, bytes);
  if (option("then", 0)) {
    UDTSOCKET listener = make_socket("listener", local);
    say("listening");
    UDTSOCKET second = accept_one(listener);
    carry({second}, send, receive + ".then", bytes);
    sockets.push_back(second);
  }
  for (UDTSOCKET socket : sockets)
    UDT::close(socket);
  UDT::cleanup();
  return 0;
}
