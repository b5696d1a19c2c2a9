// SPDX-License-Identifier: Apache-2.0
// ns of CPU per packet of the XDP relay and of what it is measured against, by BPF_PROG_TEST_RUN: every
// packet on another, random leg (xdp/test_run.bpf.c). Subjects run in turn, round after round, the
// order reversed each time, the first round discarded; what writing the packet costs is subtracted.
// In a network namespace of its own, so that routes and neighbours are the kernel's.
//
// Subjects: `relay`, `bare`, `bare-array`, or the path of a variant of the relay's object. With --garbage,
// what the relay drops: eight kinds in turn, or one by its number. Prints one line of JSON.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <getopt.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sys/mount.h>

#include <algorithm>
#include <cstdarg>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include <omerta/xdp_maps.h>
#include "common/clock.h"
#include "limited_legs.h"
#include "xdp/leg_map.h"
#include "xdp/loopback_forwarding.h"
#include "xdp/relay_program.h"

// clang-format off
#include "bare_forwarder.skel.h"
#include "test_run.skel.h"
// clang-format on

using namespace omerta;
using namespace omerta::bench;
using namespace omerta::xdp;

namespace {

constexpr uint32_t kClient = 0x64400000;  ///< 100.64.0.0 and on: 65,536 senders
constexpr uint32_t kRelay = 0xC6120001;   ///< 198.18.0.1
constexpr uint32_t kServer = 0xC6140000;  ///< 198.20.0.0 and on
constexpr uint16_t kPort = 51820;
constexpr uint32_t kClients = 65536;
constexpr Mac kFarMac = {2, 0, 0, 0, 1, 1}, kNearMac = {2, 0, 0, 0, 0, 2};
constexpr size_t kFrame = 64;

enum class Family { v4, v6 };
enum class Limits { none, leg, every };

struct Options {
  uint32_t legs = 10'000;
  uint32_t hosts = 1024;  ///< addresses legs lead to
  Limits limits = Limits::none;
  Family from = Family::v4, to = Family::v4;
  uint32_t repeat = 100'000;  ///< of one round
  uint32_t rounds = 11;       ///< with the discarded one
  bool garbage = false;
  std::optional<uint32_t> garbage_kind;
};

void type(const std::string& command) {
  if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
}

/// One cable to everywhere, by a router whose address is known.
void make_network() {
  if (unshare(CLONE_NEWNET) != 0) fail("a network namespace cannot be made");
  type("ip link set lo up");
  type("ip link add near0 type veth peer name far0");
  type("ip link set near0 address 02:00:00:00:00:02 && ip link set near0 up && ip link set far0 up");
  type("ip address add 198.18.0.1/24 dev near0 && ip route add default via 198.18.0.2");
  type("ip address add 2001:db8::1/64 dev near0 nodad && ip -6 route add default via 2001:db8::2");
  type("ip neigh add 198.18.0.2 lladdr 02:00:00:00:01:01 dev near0 nud permanent");
  type("ip neigh add 2001:db8::2 lladdr 02:00:00:00:01:01 dev near0 nud permanent");
  enable_loopback_forwarding();
}

void put32(uint8_t* at, uint32_t host_order) {
  const uint32_t value = htonl(host_order);
  std::memcpy(at, &value, sizeof value);
}

/// `host` in 2001:db8:PREFIX::/96, or as IPv4.
void put_address(uint8_t ip[16], Family family, uint8_t prefix, uint32_t host) {
  std::memset(ip, 0, 16);
  if (family == Family::v4) {
    ip[10] = ip[11] = 0xff;
  } else {
    const uint8_t head[6] = {0x20, 0x01, 0x0d, 0xb8, 0, prefix};
    std::memcpy(ip, head, sizeof head);
  }
  put32(ip + 12, host);
}

constexpr uint8_t kClientPrefix = 1, kServerPrefix = 2;

omerta_leg leg_of(const Options& options, uint32_t i) {
  omerta_leg leg = charged_leg(i);
  put_address(leg.source_ip, options.from, kClientPrefix, kClient + i % kClients);
  put_address(leg.next_ip, options.to, kServerPrefix, kServer + leg.leg_id % options.hosts);
  leg.source_port = htons(static_cast<uint16_t>(kFirstClientPort + (i & 3)));
  leg.next_port = htons(bench_server_port(leg.leg_id, 4));
  return leg;
}

void limit(relay::Accounts& accounts, size_t identities, Limits limits) {
  if (limits == Limits::leg) limit_legs(accounts);
  if (limits == Limits::every) limit_all(accounts, identities);
}

/// The relay as the daemon loads it, with its table.
class Relay {
 public:
  explicit Relay(const Options& options)
      : capacity_{options.legs / kLegsOfIdentity + 2, 65, 2},
        program_(
            {.port = kPort, .max_legs = bench_slots(options.legs), .index_slots = 64, .accounts = capacity_}),
        shared_(program_.account_files(), capacity_),
        accounts_(capacity_) {
    accounts_.set_prefix_key(0x9E3779B97F4A7C15);
    accounts_.move_to(shared_.memory());
    limit(accounts_, capacity_.identities, options.limits);
    omerta_xdp_settings& settings = program_.settings();
    settings.complete = 1;
    settings.indices_known = 1;
    // As good as none of the strangers' datagrams is within these.
    for (size_t kind = 0; kind < OMERTA_STRANGER_KINDS; kind++)
      settings.prefix[kind] = settings.total[kind] = {omerta::kSecond, omerta::kSecond};
    settings.own_count = 2;
    put_address(settings.own[0].ip, Family::v4, 0, kRelay);
    put_address(settings.own[1].ip, Family::v6, 0, 1);
    settings.only4 = settings.own[0];
    settings.only6 = settings.own[1];
    LegMap legs(program_);
    std::vector<omerta_leg> batch;
    for (uint32_t i = 0; i < options.legs; i++) {
      batch.push_back(leg_of(options, i));
      if (batch.size() < 4096 && i + 1 < options.legs) continue;
      if (!legs.install(batch).empty()) throw std::runtime_error("the map of legs is too small");
      batch.clear();
    }
    if (settings.reach != 0) throw std::runtime_error("a leg is not at home");
  }

  RelayProgram& program() { return program_; }

 private:
  relay::Accounts::Capacity capacity_;
  RelayProgram program_;
  relay::SharedAccounts shared_;
  relay::Accounts accounts_;
};

template <class Skeleton, void (*destroy)(Skeleton*)>
struct Destroy {
  void operator()(Skeleton* skeleton) const { destroy(skeleton); }
};
using Bare = std::unique_ptr<bare_forwarder, Destroy<bare_forwarder, bare_forwarder__destroy>>;
using Driver = std::unique_ptr<test_run, Destroy<test_run, test_run__destroy>>;
struct CloseObject {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using Object = std::unique_ptr<bpf_object, CloseObject>;

Bare bare_of(const Options& options) {
  Bare bare(bare_forwarder__open());
  if (!bare) fail("bare_forwarder");
  const uint32_t slots = bench_slots(options.legs);
  bpf_map__set_max_entries(bare->maps.ways, options.legs);
  bpf_map__set_max_entries(bare->maps.ways_at_home, slots);
  bare->rodata->slots = slots;
  if (bare_forwarder__load(bare.get()) != 0) fail("bare_forwarder");
  struct Way {
    uint32_t id;
    uint32_t destination;
    uint16_t port;
    uint8_t destination_mac[6], source_mac[6], unused[106];
  };
  static_assert(sizeof(Way) == sizeof(omerta_leg));
  std::vector<uint32_t> ids, homes;
  std::vector<Way> ways;
  for (uint32_t i = 0; i < options.legs; i++) {
    Way way{};
    ids.push_back(bench_leg_id(i));
    homes.push_back(omerta_leg_home(ids.back(), slots));
    way.id = ids.back();
    way.destination = htonl(kServer + ids.back() % options.hosts);
    way.port = htons(bench_server_port(ids.back(), 4));
    std::memcpy(way.destination_mac, kFarMac.data(), 6);
    std::memcpy(way.source_mac, kNearMac.data(), 6);
    ways.push_back(way);
  }
  uint32_t count = options.legs;
  if (bpf_map_update_batch(bpf_map__fd(bare->maps.ways), ids.data(), ways.data(), &count, nullptr) != 0)
    fail("ways");
  count = options.legs;
  if (bpf_map_update_batch(bpf_map__fd(bare->maps.ways_at_home), homes.data(), ways.data(), &count,
                           nullptr) != 0)
    fail("ways_at_home");
  return bare;
}

/// Loads a variant of the relay on the maps of the relay, found by their names.
Object variant_of(const std::string& path, int relay_fd) {
  uint32_t ids[64];
  bpf_prog_info info{};
  info.map_ids = reinterpret_cast<uintptr_t>(ids);
  info.nr_map_ids = 64;
  uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(relay_fd, &info, &size) != 0) fail("the relay's maps");
  std::map<std::string, int> maps;
  for (uint32_t i = 0; i < info.nr_map_ids; i++) {
    const int fd = bpf_map_get_fd_by_id(ids[i]);
    bpf_map_info map{};
    size = sizeof map;
    if (fd < 0 || bpf_obj_get_info_by_fd(fd, &map, &size) != 0) fail("a map of the relay");
    const std::string name = map.name;
    maps[name.substr(name.find('.') == std::string::npos ? 0 : name.find('.'))] = fd;
  }
  libbpf_set_print([](libbpf_print_level level, const char* format, va_list arguments) {
    return level == LIBBPF_WARN ? std::vfprintf(stderr, format, arguments) : 0;
  });
  Object object(bpf_object__open_file(path.c_str(), nullptr));
  if (!object) fail(path.c_str());
  bpf_map* map;
  bpf_object__for_each_map(map, object.get()) {
    const std::string name = bpf_map__name(map);
    const auto found = maps.find(name.substr(name.find('.') == std::string::npos ? 0 : name.find('.')));
    // One the relay does not use is one it has no id of.
    if (found != maps.end() && bpf_map__reuse_fd(map, found->second) != 0) fail(name.c_str());
  }
  if (bpf_object__load(object.get()) != 0) fail(path.c_str());
  for (const auto& [name, fd] : maps) close(fd);
  return object;
}

Driver driver_of(const Options& options) {
  Driver driver(test_run__open());
  if (!driver) fail("test_run");
  auto& traffic = driver->rodata->traffic;
  traffic.legs = options.legs;
  traffic.clients = kClients;
  traffic.flows = 4;
  traffic.client = kClient;
  traffic.relay = kRelay;
  traffic.relay_port = kPort;
  traffic.client_port = kFirstClientPort;
  traffic.destinations = 4;
  std::copy(kFarMac.begin(), kFarMac.end(), traffic.sender_mac);
  std::copy(kNearMac.begin(), kNearMac.end(), traffic.receiver_mac);
  put_address(traffic.client6, Family::v6, kClientPrefix, 0);
  put_address(traffic.relay6, Family::v6, 0, 1);
  driver->rodata->over_v6 = options.from == Family::v6;
  if (options.garbage_kind) driver->rodata->garbage_kind = *options.garbage_kind;
  if (test_run__load(driver.get()) != 0) fail("test_run");
  return driver;
}

uint64_t cpu() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

class Runner {
 public:
  Runner(const Options& options, test_run& driver)
      : options_(options),
        driver_(driver),
        packet_(kEthernetSize + (options.from == Family::v4 ? kIpv4Size : kIpv6Size) + kUdpSize + kFrame) {}

  /// ns of CPU for a packet, the driver's included.
  double run(int program_fd) {
    const uint32_t zero = 0;
    if (bpf_map_update_elem(bpf_map__fd(driver_.maps.under_test), &zero, &program_fd, BPF_ANY) != 0)
      fail("under_test");
    xdp_md context{};
    context.data_end = static_cast<uint32_t>(packet_.size());
    context.ingress_ifindex = if_nametoindex("near0");
    LIBBPF_OPTS(bpf_test_run_opts, test);
    test.data_in = packet_.data();
    test.data_size_in = static_cast<uint32_t>(packet_.size());
    test.ctx_in = &context;
    test.ctx_size_in = sizeof context;
    test.repeat = static_cast<int>(options_.repeat);
    const uint64_t start = cpu();
    const bpf_program* driver = options_.garbage ? driver_.progs.next_garbage : driver_.progs.next_packet;
    if (bpf_prog_test_run_opts(bpf_program__fd(driver), &test) != 0) fail("BPF_PROG_TEST_RUN");
    const uint64_t spent = cpu() - start;
    if (test.retval != XDP_TX && !options_.garbage)
      throw std::runtime_error("the last packet was not sent on: action " + std::to_string(test.retval));
    return static_cast<double>(spent) / options_.repeat;
  }

 private:
  const Options& options_;
  test_run& driver_;
  std::vector<uint8_t> packet_;
};

/// Of the strangers' datagrams that pass in a round, at most.
constexpr uint64_t kWithinBudgets = 100;

/// What was forwarded, or of garbage what was dropped.
uint64_t done_since(const omerta_xdp_counters& before, const omerta_xdp_counters& after, bool garbage) {
  const auto of = [&](const __u64(omerta_xdp_counters::*list)[OMERTA_XDP_COUNTER_ROOM], size_t i) {
    return (after.*list)[i] - (before.*list)[i];
  };
  if (!garbage) return of(&omerta_xdp_counters::others, OMERTA_XDP_FORWARDED_PACKETS);
  uint64_t sum = 0;
  for (size_t i = 0; i < OMERTA_DROP_REASON_COUNT; i++) sum += of(&omerta_xdp_counters::drops, i);
  for (const size_t i :
       {OMERTA_XDP_DROP_UNKNOWN_INDEX, OMERTA_XDP_DROP_HANDSHAKE_RATE, OMERTA_XDP_DROP_STUN_RATE})
    sum += of(&omerta_xdp_counters::others, i);
  return sum;
}

int run(const Options& options, const std::vector<std::string>& names) {
  make_network();
  Relay relay(options);
  const Bare bare = bare_of(options);
  const Driver driver = driver_of(options);
  Runner runner(options, *driver);

  struct Subject {
    std::string name;
    int fd;
    bool counts;  ///< every packet, as forwarded
    Object object;
    std::vector<double> rounds;
  };
  std::vector<Subject> subjects;
  const bool moves = options.from != options.to;
  subjects.push_back({"nothing",
                      bpf_program__fd(moves ? driver->progs.nothing_moved : driver->progs.nothing),
                      false,
                      {},
                      {}});
  for (const std::string& name : names) {
    if (name == "relay") {
      subjects.push_back({name, relay.program().fd(), true, {}, {}});
    } else if (name == "bare") {
      subjects.push_back({name, bpf_program__fd(bare->progs.bare_forwarder), false, {}, {}});
    } else if (name == "bare-array") {
      subjects.push_back({name, bpf_program__fd(bare->progs.bare_array_forwarder), false, {}, {}});
    } else {
      Object object = variant_of(name, relay.program().fd());
      const int fd = bpf_program__fd(bpf_object__find_program_by_name(object.get(), "omerta_relay"));
      const std::string stem = std::filesystem::path(name).stem().stem();
      subjects.push_back({stem, fd, true, std::move(object), {}});
    }
  }
  for (uint32_t round = 0; round < options.rounds; round++) {
    for (size_t at = 0; at < subjects.size(); at++) {
      Subject& subject = subjects[round % 2 == 0 ? at : subjects.size() - 1 - at];
      relay.program().run(Packet(64), boot_clock());  // sets the clock that stands still
      const omerta_xdp_counters before = relay.program().counters();
      const double spent = runner.run(subject.fd);
      const uint64_t done = done_since(before, relay.program().counters(), options.garbage);
      if (subject.counts &&
          (done > options.repeat || options.repeat - done > (options.garbage ? kWithinBudgets : 0)))
        throw std::runtime_error(subject.name + (options.garbage ? " dropped " : " forwarded ") +
                                 std::to_string(done) + " of " + std::to_string(options.repeat));
      if (round > 0) subject.rounds.push_back(spent);
    }
  }
  const std::vector<double> base = subjects[0].rounds;
  std::printf("{");
  for (const Subject& subject : subjects) {
    std::printf("%s\"%s\":[", &subject == &subjects[0] ? "" : ",", subject.name.c_str());
    for (size_t i = 0; i < subject.rounds.size(); i++)
      std::printf("%s%.1f", i == 0 ? "" : ",", subject.rounds[i] - (&subject == &subjects[0] ? 0 : base[i]));
    std::printf("]");
  }
  std::printf("}\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const option long_options[] = {{"legs", required_argument, nullptr, 'l'},
                                 {"hosts", required_argument, nullptr, 'h'},
                                 {"limits", required_argument, nullptr, 'L'},
                                 {"from-v6", no_argument, nullptr, 'f'},
                                 {"to-v6", no_argument, nullptr, 't'},
                                 {"repeat", required_argument, nullptr, 'r'},
                                 {"rounds", required_argument, nullptr, 'R'},
                                 {"garbage", optional_argument, nullptr, 'g'},
                                 {}};
  Options options;
  for (int option; (option = getopt_long(argc, argv, "", long_options, nullptr)) != -1;) {
    const auto number = [] { return static_cast<uint32_t>(std::strtoul(optarg, nullptr, 10)); };
    if (option == 'l') options.legs = number();
    if (option == 'h') options.hosts = number();
    if (option == 'L')
      options.limits = std::string(optarg) == "every" ? Limits::every
                       : std::string(optarg) == "leg" ? Limits::leg
                                                      : Limits::none;
    if (option == 'f') options.from = Family::v6;
    if (option == 't') options.to = Family::v6;
    if (option == 'r') options.repeat = number();
    if (option == 'R') options.rounds = number();
    if (option == 'g') options.garbage = true;
    if (option == 'g' && optarg != nullptr) options.garbage_kind = number();
    if (option == '?') return 2;
  }
  try {
    return run(options, {argv + optind, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "xdp_cost: %s\n", error.what());
    return 1;
  }
}
