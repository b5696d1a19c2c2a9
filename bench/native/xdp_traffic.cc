// SPDX-License-Identifier: Apache-2.0
// Load generator and sink of the XDP benchmark (xdp/live.bpf.c), in one process:
//
//   generator: live frames out of the client's interface ──> relay ──> sink: XDP on the server's
//
// Prints "ready". Each line on standard input is a run, answered by a line of JSON:
//
//   omerta|turn RELAY-PORT LEGS RATE DURATION-MS FLOOD
//
// RATE is of frames on legs, 0 as fast as it goes; DURATION-MS 0 goes on until there is another line, which
// is not looked at; FLOOD 1 sends garbage besides as fast as it goes, 2 half as much, and so on, 0 none.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <getopt.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <signal.h>
#include <sys/ioctl.h>

#include <atomic>
#include <iostream>
#include <memory>
#include <sstream>
#include <thread>

#include "turn.h"
#include "xdp/live.h"

// clang-format off
#include "live.skel.h"
// clang-format on

using namespace omerta;
using namespace omerta::bench;

namespace {

constexpr uint32_t kFlows = 16;
constexpr uint32_t kDestinations = 4;
constexpr uint16_t kFirstTurnPort = 42000;
constexpr size_t kPacket = 14 + 20 + 8 + 64;
constexpr size_t kChannelHeader = 4;
constexpr uint64_t kSettle = 200'000'000;  ///< ns for what is still on its way
constexpr uint32_t kBatch = 64;

struct Options {
  std::string client_netns, server_netns, client, relay, server;
  std::string relay_mac;
};

struct Destroy {
  void operator()(live* skeleton) const { live__destroy(skeleton); }
};
using Live = std::unique_ptr<live, Destroy>;

/// A setting of test runs that Debian's headers have, and those of old kernels have not.
#ifndef BPF_F_TEST_XDP_LIVE_FRAMES
#define BPF_F_TEST_XDP_LIVE_FRAMES (1U << 1)
#endif

void mac_of(const char* interface, uint8_t out[6]) {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  std::strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
  if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &request) != 0) fail(interface);
  std::memcpy(out, request.ifr_hwaddr.sa_data, 6);
  close(fd);
}

void parse_mac(const std::string& text, uint8_t out[6]) {
  unsigned bytes[6];
  if (std::sscanf(text.c_str(), "%x:%x:%x:%x:%x:%x", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4],
                  &bytes[5]) != 6) {
    std::fprintf(stderr, "\"%s\" is no MAC address\n", text.c_str());
    std::exit(2);
  }
  for (size_t i = 0; i < 6; i++) out[i] = static_cast<uint8_t>(bytes[i]);
}

struct Run {
  std::string protocol;
  uint32_t flood;
  uint16_t port;
  uint32_t legs;
  uint64_t rate;
  uint64_t duration_ms;
};

void nothing(int) {}

/// Channels of the TURN clients, once for the life of the process: a client port each.
void open_all_channels(const Options& options, uint16_t port) {
  static bool opened = false;
  if (opened) return;
  opened = true;
  const sockaddr_in relay = ipv4(options.relay.c_str(), port);
  for (uint32_t flow = 0; flow < kFlows; flow++) {
    const int fd = udp_socket(static_cast<uint16_t>(kFirstTurnPort + flow), 1 << 16);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&relay), sizeof relay) != 0) fail("connect");
    open_channels(fd, options.server.c_str(), kDestinations);
  }
}

/// Returns when the run is to end.
void wait_for_end(uint64_t duration_ms) {
  if (duration_ms == 0) {
    std::string line;
    std::getline(std::cin, line);
    return;
  }
  const uint64_t nanoseconds = duration_ms * 1'000'000;
  const timespec pause{static_cast<time_t>(nanoseconds / kSecond), static_cast<long>(nanoseconds % kSecond)};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
}

/// The µs that `share` of the frames did not exceed.
unsigned percentile(const __u64 (&latencies)[LATENCIES], double share) {
  __u64 total = 0, sum = 0;
  for (const __u64 count : latencies) total += count;
  for (unsigned us = 0; us < LATENCIES; us++) {
    sum += latencies[us];
    if (sum > 0 && static_cast<double>(sum) >= share * static_cast<double>(total)) return us;
  }
  return 0;
}

void run(const Options& options, live& sink, const Run& wanted, uint32_t number) {
  const bool turn = wanted.protocol == "turn";
  if (turn) open_all_channels(options, wanted.port);
  Live generator(live__open());
  if (!generator) fail("live");
  auto& traffic = generator->rodata->traffic;
  traffic.legs = wanted.legs;
  traffic.clients = 1;
  traffic.flows = kFlows;
  traffic.client = ntohl(ipv4(options.client.c_str(), 0).sin_addr.s_addr);
  traffic.relay = ntohl(ipv4(options.relay.c_str(), 0).sin_addr.s_addr);
  traffic.relay_port = wanted.port;
  traffic.client_port = turn ? kFirstTurnPort : kFirstClientPort;
  traffic.run = number;
  traffic.destinations = kDestinations;
  mac_of("eth0", traffic.sender_mac);
  parse_mac(options.relay_mac, traffic.receiver_mac);
  generator->rodata->turn = turn;
  generator->rodata->interval = wanted.rate == 0 ? 0 : kSecond / wanted.rate;
  generator->rodata->flood = wanted.flood;
  bpf_program__set_autoload(generator->progs.sink, false);
  if (live__load(generator.get()) != 0) fail("live");

  sink.bss->intact = sink.bss->repeated = sink.bss->corrupt = sink.bss->stale = 0;
  std::memset(sink.bss->seen, 0, sizeof sink.bss->seen);
  std::memset(sink.bss->latencies, 0, sizeof sink.bss->latencies);
  sink.bss->run = number;
  uint8_t packet[kPacket + kChannelHeader] = {};
  xdp_md context{};
  context.data_end = static_cast<uint32_t>(turn ? sizeof packet : kPacket);
  context.ingress_ifindex = if_nametoindex("eth0");
  LIBBPF_OPTS(bpf_test_run_opts, test);
  test.data_in = packet;
  test.data_size_in = context.data_end;
  test.ctx_in = &context;
  test.ctx_size_in = sizeof context;
  test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
  test.batch_size = kBatch;
  test.repeat = INT32_MAX;
  // One call for the whole run: each takes pages of its own. A signal ends it.
  const pthread_t self = pthread_self();
  std::atomic<bool> ended = false;
  const uint64_t start = now();
  std::thread timer([&] {
    wait_for_end(wanted.duration_ms);
    for (; !ended; usleep(1000)) pthread_kill(self, SIGUSR1);
  });
  const int error = bpf_prog_test_run_opts(bpf_program__fd(generator->progs.generate), &test);
  const uint64_t spent = now() - start;
  ended = true;
  timer.join();
  if (error != 0 && error != -EINTR) fail("BPF_PROG_TEST_RUN with live frames");
  const timespec settle{0, static_cast<long>(kSettle)};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &settle, nullptr);
  const auto number_of = [](__u64 value) { return static_cast<unsigned long long>(value); };
  std::printf(
      "{\"sent\":%llu,\"garbage\":%llu,\"received\":%llu,\"repeated\":%llu,\"corrupt\":%llu,\"stale\":%llu,"
      "\"ns\":%llu,\"latencyUs\":{\"p50\":%u,\"p99\":%u}}\n",
      number_of(generator->bss->sent), number_of(generator->bss->garbage), number_of(sink.bss->intact),
      number_of(sink.bss->repeated), number_of(sink.bss->corrupt), number_of(sink.bss->stale),
      number_of(spent), percentile(sink.bss->latencies, 0.5), percentile(sink.bss->latencies, 0.99));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const option long_options[] = {{"client-netns", required_argument, nullptr, 'c'},
                                 {"server-netns", required_argument, nullptr, 's'},
                                 {"client", required_argument, nullptr, 'C'},
                                 {"relay", required_argument, nullptr, 'r'},
                                 {"relay-mac", required_argument, nullptr, 'm'},
                                 {"server", required_argument, nullptr, 'S'},
                                 {}};
  Options options;
  for (int option; (option = getopt_long(argc, argv, "", long_options, nullptr)) != -1;) {
    if (option == 'c') options.client_netns = optarg;
    if (option == 's') options.server_netns = optarg;
    if (option == 'C') options.client = optarg;
    if (option == 'r') options.relay = optarg;
    if (option == 'm') options.relay_mac = optarg;
    if (option == 'S') options.server = optarg;
    if (option == '?') return 2;
  }
  struct sigaction interrupt {};
  interrupt.sa_handler = nothing;
  sigaction(SIGUSR1, &interrupt, nullptr);
  enter(options.server_netns);
  const Live sink(live__open_and_load());
  if (!sink) fail("live");
  const int index = static_cast<int>(if_nametoindex("eth0"));
  if (bpf_xdp_attach(index, bpf_program__fd(sink->progs.sink), 0, nullptr) != 0) fail("the sink");
  enter(options.client_netns);
  std::printf("ready\n");
  std::fflush(stdout);
  uint32_t number = static_cast<uint32_t>(getpid()) << 12;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    Run wanted;
    if (!(words >> wanted.protocol >> wanted.port >> wanted.legs >> wanted.rate >> wanted.duration_ms >>
          wanted.flood)) {
      std::fprintf(stderr, "xdp_traffic: \"%s\" is no run\n", line.c_str());
      return 2;
    }
    run(options, *sink, wanted, ++number);
  }
  return 0;
}
