/* A long cable between two network namespaces: delay, rate, queue and loss.
 *
 *   cable NAMESPACE DEVICE NAMESPACE DEVICE DELAY_US RATE_MBIT QUEUE_BYTES LOSS_PPM
 *
 * Makes a TUN device in each namespace and carries packets between them. In each
 * direction one packet in a million / LOSS_PPM is lost at random; the others wait in a
 * queue of QUEUE_BYTES for a line of RATE_MBIT (10^6 bit/s) and arrive DELAY_US after
 * they have left it. Prints "ready" and runs until it is ended.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
  SLOTS = 1 << 15, /* packets in one direction: 1 Gbit/s for 390 ms */
  LARGEST = 1600,
  AT_ONCE = 64
};

struct packet {
  uint64_t due;
  uint32_t size;
  unsigned char data[LARGEST];
};

struct direction {
  int from, to;
  uint64_t line_free; /* when the last packet has left the queue, in nanoseconds */
  unsigned first, end; /* of the ring */
  uint64_t random;
  struct packet *ring;
};

static uint64_t delay_ns, rate_mbit, queue_bytes, loss_ppm;

static uint64_t now_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000000000ull + at.tv_nsec;
}

static void check(int result, const char *step) {
  if (result < 0) {
    perror(step);
    exit(1);
  }
}

static int open_device(const char *space, const char *name) {
  char path[256];
  struct ifreq request = {0};
  int device, there;
  snprintf(path, sizeof path, "/run/netns/%s", space);
  check(there = open(path, O_RDONLY | O_CLOEXEC), path);
  check(setns(there, CLONE_NEWNET), "setns");
  close(there);
  check(device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "tun");
  snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
  /* NAPI: arriving packets pass where the kernel joins them, as on a network card. */
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_NAPI;
  check(ioctl(device, TUNSETIFF, &request), "TUNSETIFF");
  return device;
}

static int is_lost(struct direction *way) {
  way->random ^= way->random << 13;
  way->random ^= way->random >> 7;
  way->random ^= way->random << 17;
  return (way->random >> 11) % 1000000 < loss_ppm;
}

static void take(struct direction *way, uint64_t now) {
  for (int i = 0; i < AT_ONCE; ++i) {
    struct packet *slot = &way->ring[way->end % SLOTS];
    unsigned char dropped[LARGEST];
    int full = way->end - way->first == SLOTS;
    ssize_t size = read(way->from, full ? dropped : slot->data, LARGEST);
    if (size < 0)
      return;
    if (way->line_free < now)
      way->line_free = now;
    if (full || is_lost(way) ||
        (way->line_free - now) * rate_mbit > queue_bytes * 8000)
      continue;
    way->line_free += size * 8000ull / rate_mbit;
    slot->size = size;
    slot->due = way->line_free + delay_ns;
    way->end++;
  }
}

/* Deliver what is due; return how long nothing else will be, in nanoseconds. */
static uint64_t deliver(struct direction *way, uint64_t now) {
  while (way->first != way->end) {
    struct packet *slot = &way->ring[way->first % SLOTS];
    if (slot->due > now)
      return slot->due - now;
    if (write(way->to, slot->data, slot->size) < 0 && errno == EAGAIN)
      return 100000;
    way->first++;
  }
  return 1000000000;
}

int main(int count, char **words) {
  struct direction ways[2] = {{0}, {0}};
  struct pollfd ends[2];
  if (count != 9)
    return 2;
  delay_ns = strtoull(words[5], 0, 10) * 1000;
  rate_mbit = strtoull(words[6], 0, 10);
  queue_bytes = strtoull(words[7], 0, 10);
  loss_ppm = strtoull(words[8], 0, 10);
  prctl(PR_SET_TIMERSLACK, 1);
  for (int i = 0; i < 2; ++i) {
    ends[i].fd = open_device(words[1 + 2 * i], words[2 + 2 * i]);
    ends[i].events = POLLIN;
    ways[i].random = 88172645463325252ull + i;
    check((ways[i].ring = calloc(SLOTS, sizeof(struct packet))) ? 0 : -1, "memory");
  }
  ways[0].from = ways[1].to = ends[0].fd;
  ways[1].from = ways[0].to = ends[1].fd;
  puts("ready");
  fflush(stdout);
  for (;;) {
    uint64_t now = now_ns(), wait = 1000000000;
    for (int i = 0; i < 2; ++i) {
      uint64_t idle;
      take(&ways[i], now);
      idle = deliver(&ways[i], now);
      if (idle < wait)
        wait = idle;
    }
    struct timespec pause = {wait / 1000000000, wait % 1000000000};
    check(ppoll(ends, 2, &pause, 0) < 0 && errno != EINTR ? -1 : 0, "poll");
  }
}
