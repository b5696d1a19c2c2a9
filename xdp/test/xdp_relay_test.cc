// SPDX-License-Identifier: Apache-2.0
// The kernel path's life on real interfaces, in a network namespace of its own: attached, taken over,
// migrated, replaced, lost, unloaded; and the kernel's own routes and neighbours behind it.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <thread>

#include "bpf_relay.h"
#include "common/clock.h"
#include "xdp/interface_facts.h"
#include "xdp/loopback_forwarding.h"
#include "xdp/map_facts.h"
#include "xdp/self_test.h"
#include "xdp/xdp_relay.h"

using namespace omerta;
using namespace omerta::xdp;
using golden::Bytes;

namespace {

constexpr uint64_t kAnyTime = 0;  // these relays use the real clock
constexpr Mac kFarMac = {2, 0, 0, 0, 1, 1}, kBeyondMac = {2, 0, 0, 0, 1, 2};

void type(const std::string& command) {
  if (std::system((command + " 2>/dev/null").c_str()) != 0) throw std::runtime_error("failed: " + command);
}

/// A bpf file system nobody else pins in, whether this machine has one mounted or not.
bool mount_bpf_file_system() {
  return unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr) == 0;
}

/// GRO of an interface. On, a veth sends what is redirected to its other end.
void set_gro(const char* interface, bool on) {
  const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM, 0));
  ethtool_value value{ETHTOOL_SGRO, on ? 1U : 0U};
  ifreq request{};
  std::strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
  request.ifr_data = reinterpret_cast<char*>(&value);
  CHECK(ioctl(socket.get(), SIOCETHTOOL, &request) == 0);
}

/// Three cables: near0 - far0, other0 - beyond0, third0 - outside0; ours are the first ends.
void make_network() {
  if (unshare(CLONE_NEWNET) != 0) throw std::runtime_error("a network namespace cannot be made");
  type("ip link set lo up");
  for (const char* cable :
       {"near0 numrxqueues 4 numtxqueues 4 type veth peer name far0 numrxqueues 4 numtxqueues 4",
        "other0 type veth peer name beyond0", "third0 type veth peer name outside0"})
    type(std::string("ip link add ") + cable);
  for (const char* name : {"near0", "far0", "other0", "beyond0", "third0", "outside0"})
    type(std::string("ip link set ") + name + " up");
  for (const char* end : {"beyond0", "outside0"}) set_gro(end, true);
  type("ip link set near0 address 02:00:00:00:00:02");
  type("ip address add 192.0.2.1/24 dev near0");
  type("ip address add 2001:db8:a::1/64 dev near0 nodad");
  type("ip route add 198.51.100.0/24 dev other0 src 192.0.2.1");
  type("ip route add 203.0.113.0/24 dev third0 src 192.0.2.1");
  type("ip neigh add 192.0.2.9 lladdr 02:00:00:00:01:01 dev near0 nud permanent");
  type("ip neigh add 2001:db8:a::9 lladdr 02:00:00:00:01:01 dev near0 nud permanent");
  type("ip neigh add 198.51.100.9 lladdr 02:00:00:00:01:02 dev other0 nud permanent");
  type("ip neigh add 203.0.113.9 lladdr 02:00:00:00:01:02 dev third0 nud permanent");
}

RelaySettings settings_of(std::vector<std::string> interfaces = {"near0"}) {
  RelaySettings settings;
  settings.port = kPort;
  settings.interfaces = std::move(interfaces);
  settings.max_legs = 1024;
  settings.index_slots = 64;
  return settings;
}

/// A leg from 192.0.2.9, and a frame for it.
struct Traffic {
  omerta_leg leg{};
  omerta_address from = golden::address_of("192.0.2.9:4000");
  omerta_address own = golden::address_of("192.0.2.1:51820");
  Bytes frame = Bytes(64);

  explicit Traffic(const char* next, uint32_t id = 1) {
    const omerta_address to = golden::address_of(next);
    leg.leg_id = id;
    leg.action = OMERTA_LEG_FORWARD;
    std::memcpy(leg.source_ip, from.ip, 16);
    leg.source_port = from.port;
    std::memcpy(leg.next_ip, to.ip, 16);
    leg.next_port = to.port;
    leg.next_leg_id = 77;
    leg.key[0] = id;
    frame[0] = OMERTA_FRAME_MAGIC;
    frame[1] = OMERTA_KIND_FORWARD;
    frame[2] = OMERTA_HOP_LIMIT_DEFAULT;
    std::memcpy(&frame[4], &leg.leg_id, 4);
    const uint64_t tag = omerta_frame_tag(leg.key, frame.data(), 64);
    std::memcpy(&frame[8], &tag, 8);
  }
  Packet packet() const {
    Headers headers;
    headers.source_mac = kFarMac;
    headers.destination_mac = kRelayMac;
    headers.from = from;
    headers.to = own;
    headers.ttl = 57;
    return packet_of(headers, frame);
  }
  /// What is to leave, from `source` to the leg's next address.
  Packet forwarded(const omerta_address& source, const Mac& source_mac, const Mac& destination_mac) const {
    Bytes out = frame;
    omerta_leg_rewrite(&leg, out.data(), 64);
    Headers headers;
    headers.source_mac = source_mac;
    headers.destination_mac = destination_mac;
    headers.from = source;
    std::memcpy(headers.to.ip, leg.next_ip, 16);
    headers.to.port = leg.next_port;
    return packet_of(headers, out);
  }
};

Mac mac_of(const char* interface) {
  std::FILE* file = popen((std::string("ip -o link show ") + interface).c_str(), "r");
  char line[1024] = {};
  const size_t size = std::fread(line, 1, sizeof line - 1, file);
  pclose(file);
  const std::string text(line, size);
  Mac mac{};
  const char* at = text.c_str() + text.find("link/ether ") + 11;
  for (uint8_t& byte : mac) {
    byte = static_cast<uint8_t>(std::strtoul(at, nullptr, 16));
    at += 3;
  }
  return mac;
}

uint32_t index_of(const char* interface) { return if_nametoindex(interface); }

/// A relay with one leg, active.
std::unique_ptr<XdpRelay> started(const Traffic& traffic, const RelaySettings& settings = settings_of()) {
  auto relay = std::make_unique<XdpRelay>(settings);
  relay->install_legs({traffic.leg});
  relay->activate();
  return relay;
}

uint64_t count_of(XdpRelay& relay, omerta_xdp_counter counter) {
  return relay.program().counters().others[counter];
}

/// Passes, untouched, counted as `why`.
void passes(const char* sentence, XdpRelay& relay, const Traffic& traffic, omerta_xdp_counter why) {
  TEST(sentence);
  const uint64_t before = count_of(relay, why);
  const RunResult result = relay.program().run(traffic.packet(), kAnyTime, index_of("near0"));
  CHECK(result.action == XDP_PASS);
  CHECK(result.packet == traffic.packet());
  CHECK(count_of(relay, why) == before + 1);
}

uint32_t attached_program(const char* interface) {
  const auto facts = interface_facts(interface);
  return facts ? facts->program_id : 0;
}

bool program_exists(uint32_t id) {
  for (int tries = 0; tries < 1000; tries++) {  // freed after a grace period
    const FileDescriptor program(bpf_prog_get_fd_by_id(id));
    if (!program) return false;
    usleep(10'000);
  }
  return true;
}

// ---- ways ---------------------------------------------------------------------------------------

void frames_leave_by_the_kernels_routes() {
  const Traffic near("192.0.2.9:5000", 1), other("198.51.100.9:5000", 2), third("203.0.113.9:5000", 3),
      unreachable("192.0.2.77:5000", 4), nowhere("10.9.9.9:5000", 5), sixth("[2001:db8:a::9]:5000", 6);
  XdpRelay relay(settings_of({"near0", "other0"}));
  relay.install_legs({near.leg, other.leg, third.leg, unreachable.leg, nowhere.leg, sixth.leg});
  relay.activate();
  const auto run = [&relay](const Traffic& traffic) {
    return relay.program().run(traffic.packet(), kAnyTime, index_of("near0"));
  };
  {
    TEST("back by the interface it came in by, with the addresses the kernel knows");
    const RunResult result = run(near);
    CHECK(result.action == XDP_TX);
    CHECK(result.packet == near.forwarded(near.own, kRelayMac, kFarMac));
  }
  {
    TEST("out by another interface, still from the address it was sent to");
    const RunResult result = run(other);
    CHECK(result.action == XDP_REDIRECT);
    CHECK(result.packet == other.forwarded(other.own, mac_of("other0"), kBeyondMac));
    CHECK(count_of(relay, OMERTA_XDP_REDIRECTED_PACKETS) == 1);
  }
  {
    TEST("to the other family, from the address the kernel chooses");
    const RunResult result = run(sixth);
    CHECK(result.action == XDP_TX);
    CHECK(result.packet == sixth.forwarded(golden::address_of("[2001:db8:a::1]:51820"), kRelayMac, kFarMac));
  }
  passes("an interface the program is not on is the socket's", relay, third,
         OMERTA_XDP_PASSED_OTHER_INTERFACE);
  passes("a neighbour nobody has asked for is the socket's", relay, unreachable,
         OMERTA_XDP_PASSED_NO_NEIGHBOUR);
  passes("no route is the socket's to find out", relay, nowhere, OMERTA_XDP_PASSED_NO_ROUTE);
  {
    TEST("a neighbour that moved is followed within its second");
    type("ip neigh replace 192.0.2.9 lladdr 02:00:00:00:01:02 dev near0 nud permanent");
    usleep(1'100'000);
    CHECK(run(near).packet == near.forwarded(near.own, kRelayMac, kBeyondMac));
    type("ip neigh replace 192.0.2.9 lladdr 02:00:00:00:01:01 dev near0 nud permanent");
  }
  {
    TEST("a neighbour that is lost makes the frame the socket's");
    type("ip neigh del 192.0.2.9 dev near0");
    usleep(1'100'000);
  }
  passes("a lost neighbour", relay, near, OMERTA_XDP_PASSED_NO_NEIGHBOUR);
  type("ip neigh add 192.0.2.9 lladdr 02:00:00:00:01:01 dev near0 nud permanent");
  type("ip route add 192.0.2.9/32 dev near0 mtu lock 90");
  passes("a frame too big for its route is the socket's", relay, near, OMERTA_XDP_PASSED_TOO_BIG);
  type("ip route del 192.0.2.9/32 dev near0");
  usleep(1'100'000);
  {
    TEST("an MTU that changed counts within its second, and so does one that changed back");
    Traffic big("192.0.2.9:5000", 1);
    big.frame.resize(1400);
    const uint64_t tag = omerta_frame_tag(big.leg.key, big.frame.data(), 1400);
    std::memcpy(&big.frame[8], &tag, 8);
    CHECK(run(big).action == XDP_TX);
    type("ip link set near0 mtu 1300");
    usleep(1'100'000);
    passes("a frame too big for the interface", relay, big, OMERTA_XDP_PASSED_TOO_BIG);
    type("ip link set near0 mtu 1500");
    usleep(1'100'000);
    CHECK(run(big).action == XDP_TX);
    relay.check();
    CHECK(relay.interfaces()[0].attached);
  }

  usleep(1'100'000);
  disable_loopback_forwarding(OMERTA_XDP_SET_FORWARDING_4);
  passes("without forwarding of lo all goes by the socket", relay, near, OMERTA_XDP_PASSED_FORWARDING_OFF);
  CHECK(!relay.forwarding_enabled());
  {
    TEST("check() switches it on again");
    relay.check();
    CHECK(relay.forwarding_enabled());
    CHECK(run(near).action == XDP_TX);
  }
  {
    TEST("an address this machine has no more is not claimed");
    type("ip address del 192.0.2.1/24 dev near0");
    relay.check();
    const omerta_xdp_counters before = relay.program().counters();
    CHECK(run(near).action == XDP_PASS);
    CHECK(same_counters(relay.program().counters(), before));
    type("ip address add 192.0.2.1/24 dev near0");
    type("ip neigh replace 192.0.2.9 lladdr 02:00:00:00:01:01 dev near0 nud permanent");
    relay.check();
  }
  relay.close(true);
}

void a_relay_bound_to_one_address_claims_no_other() {
  TEST("a relay bound to one address claims no other");
  const Traffic traffic("192.0.2.9:5000");
  type("ip address add 198.51.100.1/24 dev other0");
  RelaySettings settings = settings_of();
  settings.bind = "198.51.100.1";
  auto relay = started(traffic, settings);
  CHECK(relay->program().run(traffic.packet(), kAnyTime, index_of("near0")).action == XDP_PASS);
  relay->close(true);
  settings.bind = "192.0.2.1";
  relay = started(traffic, settings);
  CHECK(relay->program().run(traffic.packet(), kAnyTime, index_of("near0")).action == XDP_TX);
  relay->close(true);
  type("ip address del 198.51.100.1/24 dev other0");
}

void with_several_addresses_each_remote_is_sent_to_from_the_one_it_talks_to() {
  const Traffic there("192.0.2.9:5000");
  Traffic back("192.0.2.9:4000", 2);
  back.from = golden::address_of("192.0.2.9:5000");
  back.own = golden::address_of("198.51.100.1:51820");
  back.leg.source_port = back.from.port;
  type("ip address add 198.51.100.1/24 dev other0");
  XdpRelay relay(settings_of());
  relay.install_legs({there.leg, back.leg});
  relay.activate();
  passes("nobody knows yet which address the receiver talks to", relay, there, OMERTA_XDP_PASSED_NO_SOURCE);
  {
    TEST("it is sent to from the address it talked to last, whichever its sender talks to");
    CHECK(relay.program().run(back.packet(), kAnyTime, index_of("near0")).packet ==
          back.forwarded(there.own, kRelayMac, kFarMac));
    const RunResult result = relay.program().run(there.packet(), kAnyTime, index_of("near0"));
    CHECK(result.action == XDP_TX);
    CHECK(result.packet == there.forwarded(back.own, kRelayMac, kFarMac));
  }
  type("ip address del 198.51.100.1/24 dev other0");
  type("ip address add 198.51.100.2/24 dev other0");
  relay.check();
  passes("an address this machine has no more is nobody's source", relay, there, OMERTA_XDP_PASSED_NO_SOURCE);
  type("ip address del 198.51.100.2/24 dev other0");
  relay.close(true);
}

// ---- life ---------------------------------------------------------------------------------------

void the_next_daemon_takes_over() {
  TEST("the next daemon takes over program, legs and counters");
  const Traffic kept("192.0.2.9:5000", 1), forgotten("192.0.2.9:5001", 2), fresh("192.0.2.9:5002", 3);
  uint32_t first_program = 0;
  {
    XdpRelay relay(settings_of());
    relay.install_legs({kept.leg, forgotten.leg});
    relay.activate();
    CHECK(relay.adopted_legs() == 0);
    CHECK(relay.interfaces()[0].attached && !relay.interfaces()[0].adopted);
    first_program = relay.program().id();
    CHECK(attached_program("near0") == first_program);
    for (int i = 0; i < 3; i++)
      CHECK(relay.program().run(kept.packet(), kAnyTime, index_of("near0")).action == XDP_TX);
    // Nothing is closed: the process is killed.
  }
  CHECK(attached_program("near0") == first_program);
  XdpRelay relay(settings_of());
  CHECK(relay.adopted_legs() == 2);
  CHECK(attached_program("near0") == first_program);  // it goes on until the table is whole
  relay.install_legs({kept.leg, fresh.leg});
  relay.activate();
  CHECK(relay.removed_legs() == 1);
  CHECK(relay.interfaces()[0].attached && relay.interfaces()[0].adopted);
  CHECK(attached_program("near0") == relay.program().id() && relay.program().id() != first_program);
  CHECK(!program_exists(first_program));
  CHECK(count_of(relay, OMERTA_XDP_FORWARDED_PACKETS) == 3);
  CHECK(relay.program().run(kept.packet(), kAnyTime, index_of("near0")).action == XDP_TX);
  CHECK(relay.program().run(fresh.packet(), kAnyTime, index_of("near0")).action == XDP_TX);
  CHECK(relay.program().run(forgotten.packet(), kAnyTime, index_of("near0")).action == XDP_DROP);
  size_t legs = 0;
  relay.legs().for_each([&legs](const omerta_leg& leg) {
    legs++;
    CHECK(leg.packets == (leg.leg_id == 1 ? 4 : 1));
  });
  CHECK(legs == 2);
  relay.close(false);
  CHECK(attached_program("near0") != 0 && is_loaded(kPort));
  CHECK(unload(kPort) && !unload(kPort));
  CHECK(attached_program("near0") == 0);
}

/// The same frame with a WireGuard message inside: of those each counts once.
Traffic with_message(const char* next, uint32_t id, uint64_t counter) {
  Traffic traffic(next, id);
  traffic.frame[16] = 4;
  std::memcpy(&traffic.frame[24], &counter, 8);
  const uint64_t tag = omerta_frame_tag(traffic.leg.key, traffic.frame.data(), 64);
  std::memcpy(&traffic.frame[8], &tag, 8);
  return traffic;
}

void what_was_forwarded_is_remembered_over_a_restart() {
  TEST("a message that was forwarded is not forwarded again by the next daemon");
  const Traffic first = with_message("192.0.2.9:5000", 1, 7), next = with_message("192.0.2.9:5000", 1, 8);
  const auto run = [](XdpRelay& relay, const Traffic& traffic) {
    return relay.program().run(traffic.packet(), kAnyTime, index_of("near0")).action;
  };
  {
    XdpRelay relay(settings_of());
    relay.install_legs({first.leg});
    relay.activate();
    CHECK(run(relay, first) == XDP_TX && run(relay, first) == XDP_DROP);
    // The process is killed, and held every window.
    const SharedMapping windows(relay.program().windows_fd(), 1024 * sizeof(omerta_leg_window), "windows");
    for (uint32_t slot = 0; slot < 1024; slot++) windows.as<omerta_leg_window>()[slot].lock = 1;
  }
  XdpRelay relay(settings_of());
  relay.install_legs({first.leg});
  relay.activate();
  CHECK(run(relay, first) == XDP_DROP);
  CHECK(relay.program().counters().drops[OMERTA_DROP_REPEATED] == 2);
  CHECK(run(relay, next) == XDP_TX && run(relay, next) == XDP_DROP);
  relay.close(true);
}

void the_source_of_a_leg_is_known() {
  TEST("the source of a leg that is installed is known at the door");
  const Traffic traffic("192.0.2.9:5000");
  auto relay = started(traffic);
  const SharedMapping memory(relay->program().door_fd(), sizeof(omerta_door), "door");
  const auto* door = memory.as<omerta_door>();
  const auto knows = [&](const omerta_address& address) {
    return omerta_is_known(door, omerta_known_hash(door, address.ip),
                           static_cast<uint64_t>(omerta::boot_clock())) != 0;
  };
  CHECK(knows(traffic.from) && !knows(golden::address_of("192.0.2.10:4000")));
  relay->close(true);
}

void nothing_is_left_after_an_unload() {
  TEST("after an unload there is no program, no link, no map and no changed sysctl");
  disable_loopback_forwarding(OMERTA_XDP_SET_FORWARDING_4 | OMERTA_XDP_SET_FORWARDING_6);
  auto relay = started(Traffic("192.0.2.9:5000"), settings_of({"near0", "other0"}));
  CHECK(interface_facts("near0")->receive_queues == 4);  // one program for all of them
  const uint32_t program = relay->program().id();
  const std::string folder = relay->pins().folder();
  CHECK(loopback_forwarding().ipv4 && loopback_forwarding().ipv6);
  CHECK(std::filesystem::exists(folder + "/v2/legs") && relay->pins().links().size() == 2);
  relay->close(true);
  relay.reset();
  CHECK(attached_program("near0") == 0 && attached_program("other0") == 0);
  CHECK(!std::filesystem::exists(folder));
  CHECK(!program_exists(program));
  CHECK(!loopback_forwarding().ipv4 && !loopback_forwarding().ipv6);
}

void an_interface_that_is_no_longer_asked_for_is_let_go() {
  TEST("an interface that is no longer asked for is let go");
  const Traffic traffic("192.0.2.9:5000");
  started(traffic, settings_of({"near0", "other0"}))->close(false);
  auto relay = started(traffic, settings_of({"near0"}));
  CHECK(attached_program("near0") != 0 && attached_program("other0") == 0);
  CHECK(relay->pins().links().size() == 1);
  relay->close(true);
}

/// Pins a hash with one value in it, of `value_size` bytes, as the map `path` of another layout.
void pin_hash(const std::string& path, const void* key, uint32_t key_size, const omerta_leg& leg,
              uint32_t value_size) {
  const FileDescriptor map(bpf_map_create(BPF_MAP_TYPE_HASH, "former", key_size, value_size, 16, nullptr));
  std::vector<uint8_t> value(value_size);
  std::memcpy(value.data(), &leg, std::min<size_t>(value_size, sizeof leg));
  CHECK(bpf_map_update_elem(map.get(), key, value.data(), BPF_ANY) == 0);
  CHECK(bpf_obj_pin(map.get(), path.c_str()) == 0);
}

/// Pins the maps of layout 1, which had its legs in a hash, or of one nobody can read.
void pin_foreign(const omerta_leg& leg, bool readable) {
  const Pins pins(kPort);
  pins.create();
  const std::string folder = pins.folder() + (readable ? "/v1" : "/v0");
  CHECK(mkdir(folder.c_str(), 0700) == 0);
  const uint32_t size = readable ? sizeof leg : 96;
  pin_hash(folder + "/legs", &leg.leg_id, 4, leg, size);
  const omerta_wireguard_route_key key = {
      .receiver_index = leg.leg_id, .source_port = 7, .zero = 0, .source_ip = {}};
  pin_hash(folder + "/routes", &key, sizeof key, leg, size);
  const FileDescriptor counters(
      bpf_map_create(BPF_MAP_TYPE_PERCPU_ARRAY, "counters", 4, sizeof(omerta_xdp_counters), 1, nullptr));
  std::vector<omerta_xdp_counters> rows(static_cast<size_t>(libbpf_num_possible_cpus()));
  rows[0].others[OMERTA_XDP_FORWARDED_PACKETS] = leg.packets;
  const uint32_t zero = 0;
  CHECK(bpf_map_update_elem(counters.get(), &zero, rows.data(), BPF_ANY) == 0);
  CHECK(bpf_obj_pin(counters.get(), (folder + "/counters").c_str()) == 0);
}

void maps_of_another_layout_are_not_adopted() {
  const Traffic traffic("192.0.2.9:5000");
  for (const bool readable : {true, false}) {
    TEST(readable ? "legs of another layout are installed anew and go on counting, routes go on"
                  : "legs and routes that cannot be read are left out; what all counted goes on");
    omerta_leg counted = traffic.leg;
    counted.packets = 41;
    counted.key[0] ^= 1;  // whatever it holds, the store's leg counts
    pin_foreign(counted, readable);
    auto relay = started(traffic);
    CHECK(relay->routes().all().size() == (readable ? 1 : 0));
    CHECK(relay->adopted_legs() == 0);
    CHECK(relay->program().run(traffic.packet(), kAnyTime, index_of("near0")).action == XDP_TX);
    relay->legs().for_each([&](const omerta_leg& leg) { CHECK(leg.packets == (readable ? 42 : 1)); });
    CHECK(count_of(*relay, OMERTA_XDP_FORWARDED_PACKETS) == 42);
    CHECK(relay->pins().foreign_layouts().empty());
    relay->close(true);
  }
}

void a_map_that_is_too_small_is_replaced() {
  TEST("a map too small for the configuration is replaced; counters go on");
  const Traffic traffic("192.0.2.9:5000");
  {
    auto relay = started(traffic);
    CHECK(relay->program().run(traffic.packet(), kAnyTime, index_of("near0")).action == XDP_TX);
  }
  RelaySettings larger = settings_of();
  larger.max_legs = 4096;
  auto relay = started(traffic, larger);
  CHECK(capacity_of(relay->program().legs_fd()) == 4096);
  CHECK(relay->interfaces()[0].adopted);
  CHECK(relay->program().run(traffic.packet(), kAnyTime, index_of("near0")).action == XDP_TX);
  relay->legs().for_each([](const omerta_leg& leg) { CHECK(leg.packets == 2); });
  relay.reset();
  relay = started(traffic, larger);
  CHECK(relay->adopted_legs() == 1);  // what is pinned is the new one
  relay->close(true);
}

void what_is_counted_until_a_program_is_replaced_is_kept() {
  TEST("what a map that is not adopted counts until its program is replaced is kept");
  const Traffic traffic("192.0.2.9:5000");
  auto former = started(traffic);
  RelaySettings larger = settings_of();
  larger.max_legs = 4096;
  XdpRelay relay(larger);
  relay.install_legs({traffic.leg});
  CHECK(former->program().run(traffic.packet(), kAnyTime, index_of("near0")).action == XDP_TX);
  relay.activate();
  CHECK(relay.program().run(traffic.packet(), kAnyTime, index_of("near0")).action == XDP_TX);
  relay.legs().for_each([](const omerta_leg& leg) { CHECK(leg.packets == 2 && leg.bytes == 128); });
  relay.close(true);
}

void a_full_map_leaves_the_rest_to_the_socket() {
  TEST("legs a full map has no room for go by the socket until there is room");
  RelaySettings settings = settings_of();
  settings.max_legs = 2;
  XdpRelay relay(settings);
  std::vector<Traffic> traffic;
  std::vector<omerta_leg> legs;
  for (uint32_t id = 1; id <= 4; id++) legs.push_back(traffic.emplace_back("192.0.2.9:5000", id).leg);
  relay.install_legs(legs);
  relay.activate();
  CHECK(relay.missing_legs() == 2);
  const auto actions = [&] {
    std::array<int, 3> counts{};
    for (const Traffic& each : traffic) {
      const uint32_t action = relay.program().run(each.packet(), kAnyTime, index_of("near0")).action;
      counts[action == XDP_TX ? 0 : action == XDP_PASS ? 1 : 2]++;
    }
    return counts;
  };
  CHECK((actions() == std::array<int, 3>{2, 2, 0}));
  std::vector<uint32_t> present;
  relay.legs().for_each([&present](const omerta_leg& leg) { present.push_back(leg.leg_id); });
  relay.remove_legs(present);
  CHECK(relay.missing_legs() == 0);
  CHECK((actions() == std::array<int, 3>{2, 0, 2}));
  relay.close(true);
}

/// Legs of one home, in the map of settings_of().
std::vector<Traffic> crowd(uint32_t home, size_t count) {
  std::vector<Traffic> traffic;
  constexpr uint32_t kShare = 1u << 22;  // of 2^32 ids, by 1024 slots
  for (uint32_t i = 0; i < count; i++) traffic.emplace_back("192.0.2.9:5000", home * kShare + i + 1);
  return traffic;
}

void legs_whose_homes_are_taken_lie_nearby() {
  for (const uint32_t home : {7u, 1020u}) {  // the second one's places wrap
    TEST(
        "legs whose homes are taken lie nearby; those with no place there go by the socket until there is "
        "one");
    const std::vector<Traffic> traffic = crowd(home, OMERTA_XDP_REACH + 2);
    XdpRelay relay(settings_of());
    std::vector<omerta_leg> legs;
    for (const Traffic& each : traffic) legs.push_back(each.leg);
    const auto action = [&relay](const Traffic& each) {
      return relay.program().run(each.packet(), kAnyTime, index_of("near0")).action;
    };
    relay.install_legs({legs[0]});
    relay.activate();
    CHECK(relay.program().settings().reach == 0);
    CHECK(action(traffic[0]) == XDP_TX && action(traffic[1]) == XDP_DROP);
    relay.install_legs(legs);
    CHECK(relay.program().settings().reach == OMERTA_XDP_REACH && relay.missing_legs() == 1);
    for (const Traffic& each : traffic) CHECK(action(each) == (&each == &traffic.back() ? XDP_PASS : XDP_TX));
    relay.remove_legs({{legs[0].leg_id}});
    CHECK(relay.missing_legs() == 0);
    for (const Traffic& each : traffic)
      CHECK(action(each) == (&each == &traffic.front() ? XDP_DROP : XDP_TX));
    for (const omerta_leg& leg : legs) {
      omerta_leg found;
      CHECK(relay.legs().find(leg.leg_id, found) == (leg.leg_id != legs[0].leg_id));
    }
    relay.close(false);

    TEST("the next daemon finds them where they are");
    auto next = std::make_unique<XdpRelay>(settings_of());
    CHECK(next->adopted_legs() == legs.size() - 1);
    CHECK(next->program().settings().reach == OMERTA_XDP_REACH);
    next->install_legs({legs.begin() + 1, legs.end()});
    next->activate();
    next->legs().for_each(
        [](const omerta_leg& leg) { CHECK(leg.packets == (leg.leg_id % 64 == 18 ? 1 : 2)); });
    next->close(true);
  }
}

/// The first word of a leg's entry, in the memory of the map.
class FirstWord {
 public:
  FirstWord(XdpRelay& relay, uint32_t id)
      : memory_(relay.program().legs_fd(), 1024 * sizeof(omerta_leg), "legs"),
        entry_(memory_.as<omerta_leg>() + omerta_leg_home(id, 1024)) {}
  uint64_t& operator*() { return *reinterpret_cast<uint64_t*>(entry_); }

 private:
  SharedMapping memory_;
  omerta_leg* entry_;
};

void a_leg_that_is_being_written_is_not_judged_by() {
  const Traffic traffic("192.0.2.9:5000");
  auto relay = started(traffic);
  {
    FirstWord word(*relay, traffic.leg.leg_id);
    CHECK(*word != 0);
    *word ^= OMERTA_LEG_WRITING_BIT;
    passes("a frame on a leg that is being written is the socket's", *relay, traffic,
           OMERTA_XDP_PASSED_LEG_CHANGED);
    Traffic wrong = traffic;
    wrong.frame[20] ^= 1;
    passes("and so is one with a wrong tag", *relay, wrong, OMERTA_XDP_PASSED_LEG_CHANGED);
    wrong.from.port ^= 1;
    passes("and one from elsewhere", *relay, wrong, OMERTA_XDP_PASSED_LEG_CHANGED);
  }
  relay->close(false);

  TEST("a leg that a daemon died writing is not adopted, but written anew");
  relay = std::make_unique<XdpRelay>(settings_of());
  CHECK(relay->adopted_legs() == 0);
  relay->install_legs({traffic.leg});
  relay->activate();
  CHECK(relay->program().run(traffic.packet(), kAnyTime, index_of("near0")).action == XDP_TX);
  relay->close(true);
}

void no_frame_is_judged_by_half_a_leg() {
  TEST("while a leg is replaced, every frame is judged by the one or the other, or by the socket");
  const Traffic one("192.0.2.9:5000");
  Traffic other("[2001:db8:a::9]:6000");
  other.leg.key[0] ^= 1;
  other.leg.key[1] ^= 1;
  other.leg.next_leg_id ^= 1;
  other.leg.next_key[1] ^= 1;
  auto relay = started(one);
  const omerta_address source6 = golden::address_of("[2001:db8:a::1]:51820");
  const auto run = [&](const Traffic& traffic) {
    return relay->program().run(traffic.packet(), kAnyTime, index_of("near0"));
  };
  const Packet forwarded = one.forwarded(one.own, kRelayMac, kFarMac);
  CHECK(run(one).packet == forwarded);
  const Packet otherwise = [&] {
    Traffic signed_by_other = other;
    const uint64_t tag = omerta_frame_tag(other.leg.key, signed_by_other.frame.data(), 64);
    std::memcpy(&signed_by_other.frame[8], &tag, 8);
    other = signed_by_other;
    return other.forwarded(source6, kRelayMac, kFarMac);
  }();

  std::atomic<bool> done = false;
  std::thread writer([&] {
    while (!done) {
      relay->install_legs({other.leg});
      relay->install_legs({one.leg});
    }
  });
  std::array<uint64_t, 5> actions{};
  uint64_t torn = 0;
  const time_t deadline = std::time(nullptr) + 20;
  const auto seen_all = [&] {
    return actions[XDP_TX] >= 20'000 && actions[XDP_DROP] >= 1'000 && actions[XDP_PASS] >= 20;
  };
  while (!seen_all() && std::time(nullptr) < deadline)
    for (const Traffic* traffic : {&one, static_cast<const Traffic*>(&other)}) {
      const RunResult result = run(*traffic);
      actions[result.action]++;
      const Packet& whole = traffic == &one ? forwarded : otherwise;
      if (result.packet != (result.action == XDP_TX ? whole : traffic->packet())) torn++;
    }
  done = true;
  writer.join();
  const omerta_xdp_counters counters = relay->program().counters();
  CHECK(torn == 0);
  CHECK(actions[XDP_TX] > 0 && actions[XDP_DROP] > 0);
  // Half a leg may lead nowhere: then that is why it passes.
  CHECK(counters.others[OMERTA_XDP_PASSED_LEG_CHANGED] > 0);
  CHECK(counters.drops[OMERTA_DROP_BAD_TAG] == actions[XDP_DROP]);
  std::printf("frames while their leg was replaced: %llu forwarded, %llu dropped, %llu passed\n",
              static_cast<unsigned long long>(actions[XDP_TX]),
              static_cast<unsigned long long>(actions[XDP_DROP]),
              static_cast<unsigned long long>(actions[XDP_PASS]));
  relay->close(true);
}

void the_self_test_notices_a_wrong_byte() {
  CHECK(self_test() > 50);
  const auto complaint = [](const std::function<void(omerta_xdp_settings&)>& spoil) -> std::string {
    try {
      self_test(spoil);
    } catch (const XdpError& error) {
      return error.code() == XdpError::Code::self_test ? error.what() : "another error";
    }
    return "";
  };
  TEST("one wrong byte of a forwarded packet is found and named");
  const std::string wrong_source = complaint([](omerta_xdp_settings& s) { s.only4.ip[15] ^= 1; });
  CHECK(wrong_source.find("from IPv4 to IPv4: ") != std::string::npos);
  TEST("a wrong verdict is found and named");
  CHECK(complaint([](omerta_xdp_settings& s) { s.own_count = 0; }).find("XDP action 2 instead of 3") !=
        std::string::npos);
  CHECK(!complaint([](omerta_xdp_settings& s) { s.complete = 0; }).empty());
}

// ---- what goes wrong ------------------------------------------------------------------------------

FileDescriptor pass_program() {
  const bpf_insn instructions[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  return FileDescriptor(bpf_prog_load(BPF_PROG_TYPE_XDP, "pass", "GPL", instructions, 2, nullptr));
}

void a_second_program_is_named() {
  TEST("somebody else's program is left alone and named");
  const FileDescriptor pass = pass_program();
  CHECK(bpf_xdp_attach(static_cast<int>(index_of("near0")), pass.get(), 0, nullptr) == 0);
  const uint32_t theirs = attached_program("near0");
  auto relay = started(Traffic("192.0.2.9:5000"));
  const Attachment::Status status = relay->interfaces()[0];
  CHECK(!status.attached && status.code == "BUSY" && status.number == theirs);
  CHECK(attached_program("near0") == theirs);
  relay->close(true);
  CHECK(bpf_xdp_detach(static_cast<int>(index_of("near0")), 0, nullptr) == 0);

  TEST("and nobody else's program can take our place");
  relay = started(Traffic("192.0.2.9:5000"));
  CHECK(bpf_xdp_attach(static_cast<int>(index_of("near0")), pass.get(), 0, nullptr) != 0);
  CHECK(attached_program("near0") == relay->program().id());
  relay->close(true);
}

void an_mtu_that_is_too_big_is_named() {
  TEST("an MTU too big for native XDP is named");
  type("ip link set far0 mtu 9000");
  auto relay = started(Traffic("192.0.2.9:5000"));
  CHECK(!relay->interfaces()[0].attached && relay->interfaces()[0].code == "MTU");
  relay->close(true);
  TEST("generic mode does not mind");
  RelaySettings generic = settings_of();
  generic.mode = Mode::generic;
  relay = started(Traffic("192.0.2.9:5000"), generic);
  CHECK(relay->interfaces()[0].attached && interface_facts("near0")->generic);
  relay->close(false);
  type("ip link set far0 mtu 1500");
  TEST("a start in native mode takes over from generic mode");
  relay = started(Traffic("192.0.2.9:5000"));
  CHECK(relay->interfaces()[0].attached && !relay->interfaces()[0].adopted);
  CHECK(!interface_facts("near0")->generic);
  relay->close(true);
}

void an_interface_that_vanishes_is_attached_again_when_it_is_back() {
  TEST("an interface that vanishes is attached again when it is back");
  type("ip link add brief0 type veth peer name brief1");
  type("ip link set brief0 up");
  auto relay = started(Traffic("192.0.2.9:5000"), settings_of({"near0", "brief0"}));
  CHECK(relay->interfaces()[1].attached);
  type("ip link del brief0");
  relay->check();
  CHECK(relay->interfaces()[0].attached);
  CHECK(!relay->interfaces()[1].attached && relay->interfaces()[1].code == "NO_INTERFACE");
  CHECK(relay->pins().links().size() == 1);
  type("ip link add brief0 type veth peer name brief1");
  relay->check();
  CHECK(relay->interfaces()[1].attached && attached_program("brief0") == relay->program().id());
  CHECK(relay->pins().links().size() == 2);

  TEST("a link that somebody detached is made again");
  const FileDescriptor link = open_pin(relay->pins().link_path(index_of("near0")));
  CHECK(bpf_link_detach(link.get()) == 0);
  CHECK(attached_program("near0") == 0);
  relay->check();
  CHECK(attached_program("near0") == relay->program().id());
  relay->close(true);
  type("ip link del brief0");
}

/// A packet socket on the far end of a cable.
class FarEnd {
 public:
  explicit FarEnd(const char* interface = "far0") : socket_(::socket(AF_PACKET, SOCK_RAW, htons(0x0003))) {
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(0x0003);
    address.sll_ifindex = static_cast<int>(index_of(interface));
    CHECK(bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  void send(const Packet& packet) { CHECK(::send(socket_.get(), packet.data(), packet.size(), 0) > 0); }
  /// The next packet for `mac`; empty when none comes for 5 s.
  Packet receive(const Mac& mac) {
    for (pollfd ready{socket_.get(), POLLIN, 0}; poll(&ready, 1, 5000) == 1;) {
      Packet packet(2048);
      packet.resize(static_cast<size_t>(recv(socket_.get(), packet.data(), packet.size(), 0)));
      if (packet.size() > 12 && std::memcmp(packet.data(), mac.data(), 6) == 0) return packet;
    }
    return {};
  }

 private:
  FileDescriptor socket_;
};

void a_driver_that_loses_frames_is_given_up() {
  const Traffic traffic("192.0.2.9:5000");
  FarEnd far;
  {
    TEST("a frame from the cable goes back onto it");
    const FileDescriptor pass = pass_program();
    CHECK(bpf_xdp_attach(static_cast<int>(index_of("far0")), pass.get(), 0, nullptr) == 0);
    auto relay = started(traffic);
    far.send(traffic.packet());
    CHECK(far.receive(kFarMac) == traffic.forwarded(traffic.own, kRelayMac, kFarMac));
    relay->close(true);
    CHECK(bpf_xdp_detach(static_cast<int>(index_of("far0")), 0, nullptr) == 0);
  }
  {
    TEST("a frame from one cable goes out by another");
    const Traffic across("198.51.100.9:5000");
    // They went with an address, in a test above.
    type("ip route replace 198.51.100.0/24 dev other0 src 192.0.2.1");
    type("ip neigh replace 198.51.100.9 lladdr 02:00:00:00:01:02 dev other0 nud permanent");
    const FileDescriptor pass = pass_program();
    CHECK(bpf_xdp_attach(static_cast<int>(index_of("beyond0")), pass.get(), 0, nullptr) == 0);
    FarEnd beyond("beyond0");
    auto relay = started(across, settings_of({"near0", "other0"}));
    far.send(across.packet());
    CHECK(beyond.receive(kBeyondMac) == across.forwarded(across.own, mac_of("other0"), kBeyondMac));
    CHECK(count_of(*relay, OMERTA_XDP_REDIRECTED_PACKETS) == 1);
    relay->close(true);
    CHECK(bpf_xdp_detach(static_cast<int>(index_of("beyond0")), 0, nullptr) == 0);
  }
  TEST("a veth whose other end runs no program loses frames and is given up");
  auto relay = started(traffic);
  relay->check();
  // The driver counts what it loses when it has judged all of a batch.
  const auto lose_frames = [&] {
    const auto lost = [] { return transmit_counts("near0").value_or(TransmitCounts{}).errors; };
    const uint64_t before = lost();
    for (int i = 0; i < 100; i++) far.send(traffic.packet());
    for (int tries = 0; tries < 2000 && lost() < before + 100; tries++) usleep(10'000);
    CHECK(lost() == before + 100);
  };
  lose_frames();
  CHECK(count_of(*relay, OMERTA_XDP_FORWARDED_PACKETS) == 100);
  relay->check();
  const Attachment::Status status = relay->interfaces()[0];
  CHECK(!status.attached && status.code == "LOSES_FRAMES");
  CHECK(status.number == 100 && status.detail == "100" && status.driver == "veth");
  CHECK(attached_program("near0") == 0);
  relay->check();
  CHECK(!relay->interfaces()[0].attached);  // it does not go back and forth
  // Whoever sends more than an interface takes makes it lose frames as well, so it is tried again.
  Nanoseconds later = boot_clock();
  for (const Nanoseconds pause : {RetryPause::kFirst, 2 * RetryPause::kFirst}) {
    relay->check(later + pause - kSecond);
    CHECK(!relay->interfaces()[0].attached);
    later += pause + kSecond;
    relay->check(later);
    CHECK(relay->interfaces()[0].attached && attached_program("near0") != 0);
    lose_frames();
    relay->check(later);
    CHECK(!relay->interfaces()[0].attached);
  }
  relay->close(true);
}

void a_veth_that_keeps_what_it_took_is_given_up() {
  const Traffic traffic("192.0.2.9:5000");
  FarEnd far;
  const auto look = [&](XdpRelay& relay) {
    for (int i = 0; i < 20; i++) far.send(traffic.packet());
    usleep(550'000);
    relay.check();
    return relay.interfaces()[0];
  };
  {
    TEST("a veth that delivers what it took is kept");
    const FileDescriptor pass = pass_program();
    CHECK(bpf_xdp_attach(static_cast<int>(index_of("far0")), pass.get(), 0, nullptr) == 0);
    auto relay = started(traffic);
    for (int i = 0; i < 5; i++) CHECK(look(*relay).attached);
    relay->close(true);
    CHECK(bpf_xdp_detach(static_cast<int>(index_of("far0")), 0, nullptr) == 0);
  }
  TEST("a veth whose other end has GRO on and runs no program is given up, though it counts no error");
  set_gro("far0", true);
  auto relay = started(traffic);
  Attachment::Status status = relay->interfaces()[0];
  CHECK(status.attached);
  // Whatever else passes by takes the frames along: then another look tells.
  for (int looks = 0; looks < 10 && status.attached; looks++) status = look(*relay);
  CHECK(!status.attached && status.code == "KEEPS_FRAMES" && status.number > 0);
  CHECK(attached_program("near0") == 0);
  relay->close(true);
  set_gro("far0", false);
}

/// The kernel drops what is redirected to a veth whose other end has neither GRO nor a program, and no
/// counter tells.
void nothing_is_redirected_to_a_veth_that_takes_nothing() {
  const Traffic across("198.51.100.9:5000");
  type("ip route replace 198.51.100.0/24 dev other0 src 192.0.2.1");
  type("ip neigh replace 198.51.100.9 lladdr 02:00:00:00:01:02 dev other0 nud permanent");
  FarEnd far;
  FarEnd beyond("beyond0");
  auto relay = started(across, settings_of({"near0", "other0"}));
  const auto takes = [&] { return relay->interfaces()[1].takes_redirected; };
  const auto crosses = [&] {
    usleep(1'100'000);  // what is known of a next hop holds for a second
    far.send(across.packet());
    return !beyond.receive(kBeyondMac).empty();
  };
  TEST("a veth takes what is redirected to it while its other end has GRO on");
  relay->check();
  CHECK(takes() && crosses());
  CHECK(count_of(*relay, OMERTA_XDP_REDIRECTED_PACKETS) == 1);
  TEST("what would be lost since GRO went off there goes by the socket");
  set_gro("beyond0", false);
  relay->check();
  CHECK(!takes() && relay->interfaces()[1].attached);
  CHECK(!crosses());
  CHECK(count_of(*relay, OMERTA_XDP_REDIRECTED_PACKETS) == 1);
  CHECK(count_of(*relay, OMERTA_XDP_PASSED_OTHER_INTERFACE) == 1);
  TEST("and goes by the kernel again when GRO is on again");
  set_gro("beyond0", true);
  relay->check();
  CHECK(takes() && crosses());
  CHECK(count_of(*relay, OMERTA_XDP_REDIRECTED_PACKETS) == 2);
  relay->close(true);
}

void looks_at_deliveries() {
  TEST("what was taken has to be delivered by the look after the next, whatever else was sent");
  constexpr omerta::Nanoseconds kSecond = 1'000'000'000;
  DeliveryWatch watch;
  CHECK(watch.look(0xffffffff, 100, 1 * kSecond) == 0);
  CHECK(watch.look(9, 110, 2 * kSecond) == 0);       // counted beyond 2^32
  CHECK(watch.look(10, 120, 3 * kSecond) == 0);      // 10 were due, 11 left
  CHECK(watch.look(10, 120, 3 * kSecond + 1) == 0);  // too soon to say anything
  CHECK(watch.look(15, 120, 4 * kSecond) == 4);      // 10 were due since 9
  watch.reset();
  CHECK(watch.look(15, 120, 5 * kSecond) == 0);
  CHECK(watch.look(15, 130, 6 * kSecond) == 0);
  CHECK(watch.look(15, 130, 7 * kSecond) == 10);
  CHECK(watch.look(20, 40, 8 * kSecond) == 0);  // some of its queues were taken away
  CHECK(watch.look(20, 50, 9 * kSecond) == 0);
  CHECK(watch.look(30, 50, 10 * kSecond) == 0);
}

// ---- many legs -------------------------------------------------------------------------------------

void many_legs_are_written() {
  TEST("200,000 legs are installed, replaced and removed");
  constexpr uint32_t kLegs = 200'000;
  RelaySettings settings = settings_of();
  settings.max_legs = kLegs;
  XdpRelay relay(settings);
  relay.activate();
  std::vector<omerta_leg> legs;
  std::vector<uint32_t> ids;
  for (uint32_t i = 1; i <= kLegs; i++) {
    legs.push_back(Traffic("192.0.2.9:5000", i * 2654435761U).leg);
    ids.push_back(legs.back().leg_id);
  }
  // Of this process's CPU: others may be busy.
  const auto seconds = [](auto&& run) {
    const std::clock_t start = std::clock();
    run();
    return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  };
  const double installed = seconds([&] { relay.install_legs(legs); });
  for (omerta_leg& leg : legs) leg.next_port ^= 1;
  const double replaced = seconds([&] { relay.install_legs(legs); });
  const double removed = seconds([&] { relay.remove_legs(ids); });
  std::printf("legs a second: %.0f installed, %.0f replaced, %.0f removed\n", kLegs / installed,
              kLegs / replaced, kLegs / removed);
  CHECK(relay.missing_legs() == 0);
  size_t left = 0;
  relay.legs().for_each([&left](const omerta_leg&) { left++; });
  CHECK(left == 0);
  relay.close(true);
}

}  // namespace

int main() {
  if (geteuid() != 0 || std::system("ip -V >/dev/null 2>&1") != 0) {
    std::printf("SKIP: network namespaces need root, and ip (apt-get install iproute2)\n");
    return kSkipped;
  }
  if (!mount_bpf_file_system()) {
    std::printf("SKIP: a bpf file system cannot be mounted: %s\n", std::strerror(errno));
    return kSkipped;
  }
  return run_bpf_test([] {
    make_network();
    frames_leave_by_the_kernels_routes();
    a_relay_bound_to_one_address_claims_no_other();
    with_several_addresses_each_remote_is_sent_to_from_the_one_it_talks_to();
    the_next_daemon_takes_over();
    what_was_forwarded_is_remembered_over_a_restart();
    the_source_of_a_leg_is_known();
    nothing_is_left_after_an_unload();
    an_interface_that_is_no_longer_asked_for_is_let_go();
    maps_of_another_layout_are_not_adopted();
    a_map_that_is_too_small_is_replaced();
    what_is_counted_until_a_program_is_replaced_is_kept();
    a_full_map_leaves_the_rest_to_the_socket();
    legs_whose_homes_are_taken_lie_nearby();
    a_leg_that_is_being_written_is_not_judged_by();
    no_frame_is_judged_by_half_a_leg();
    the_self_test_notices_a_wrong_byte();
    a_second_program_is_named();
    an_mtu_that_is_too_big_is_named();
    an_interface_that_vanishes_is_attached_again_when_it_is_back();
    a_driver_that_loses_frames_is_given_up();
    a_veth_that_keeps_what_it_took_is_given_up();
    nothing_is_redirected_to_a_veth_that_takes_nothing();
    looks_at_deliveries();
    many_legs_are_written();
    unload(kPort);
  });
}
