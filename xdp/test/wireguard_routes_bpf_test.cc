// SPDX-License-Identifier: Apache-2.0
// Transport messages of relayed WireGuard sessions through the XDP relay and through the table user space
// relays them by: equal verdicts, bytes and counters, over sessions that come, expire, and change hands.
#include <sys/mman.h>

#include <cstdlib>
#include <random>

#include "bpf_relay.h"
#include "relay/wireguard_table.h"
#include "test/stock_wireguard.h"
#include "xdp/route_map.h"

using namespace omerta;
using namespace omerta::xdp;
using Verdict = relay::WireguardTable::Verdict;

namespace {

constexpr size_t kPackets = 120'000;
constexpr size_t kSessions = 64;
constexpr size_t kServers = 4;
constexpr uint32_t kOwnIndex = 0x0abc0007;

class Agreement {
 public:
  explicit Agreement(uint32_t seed)
      : random_(seed),
        table_(kSessions, stock::random_bytes, {{1, 2}}),
        routes_(kernel_.program().routes_fd()) {
    accounts_.set_prefix_key(golden::kPrefixKey);
    table_.mirror_expected(map(kernel_.program().expected_fd(), OMERTA_EXPECTED_INDICES));
    map(kernel_.program().indices_fd(), 64)[kOwnIndex & 63] = kOwnIndex;
    kernel_.program().settings().indices_known = 1;
    for (size_t number = 0; number < kServers; number++) bind(number, number);
  }

  void run() {
    for (size_t i = 0; i < kPackets; i++) {
      now_ += below(20) == 0 ? below(100'000'000) : below(10'000);
      if (i % 400 == 0) change_limits();
      if (i % 100 == 0) connect();
      if (i % 3000 == 2999) bind(below(kServers), below(8));
      if (i % 5000 == 4999) table_.unbind(below(kServers), accounts_);
      if (i % 500 == 0) table_.sweep(now_);
      teach();
      send();
    }
    compare_totals();
  }

 private:
  size_t below(size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random_); }

  uint64_t* map(int fd, size_t words) {
    void* memory = mmap(nullptr, words * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED);
    return static_cast<uint64_t*>(memory);
  }

  static omerta_address server_at(size_t place) {
    const std::string last = std::to_string(place + 1);
    return golden::address_of(place % 2 == 0 ? "203.0.113." + last + ":51820"
                                             : "[2001:db8:5::" + last + "]:51820");
  }

  /// Server `number` is at `place`, on accounts of that number.
  void bind(size_t number, size_t place) {
    omerta_wireguard_binding binding{};
    const Key32 key = stock::server_key(static_cast<uint8_t>(number + 1));
    std::memcpy(binding.public_key, key.data(), 32);
    binding.server = server_at(place);
    binding.identity = static_cast<uint32_t>(place);
    binding.network = static_cast<uint16_t>(number);
    binding.limits = static_cast<uint16_t>(number);
    table_.bind(number, binding, now_, accounts_);
    places_[number] = place;
  }

  /// The same rates on both sides; none at all while a handshake is finished, which user space does alone.
  void for_both(const std::function<void(relay::Accounts&)>& set) {
    set(accounts_);
    set(kernel_.accounts());
  }
  omerta_rate rate(uint32_t dearest) {
    if (below(3) != 0) return {};
    return {static_cast<__u32>(below(dearest)), static_cast<__u32>(below(100'000)),
            static_cast<__u32>(below(1u << 20))};
  }
  void change_limits() {
    for (Rates& each : rates_) each = {rate(1u << 24), rate(1u << 24), rate(1u << 22)};
    host_ = rate(1u << 20);
    prefix_ = rate(1u << 20);
    fair_ = below(2) == 0 ? 0 : static_cast<uint32_t>(below(1u << 18));
    set_limits();
  }
  void set_limits() {
    for_both([this](relay::Accounts& accounts) {
      for (size_t i = 0; i < golden::kClasses; i++) {
        accounts.set_limits(i, {rates_[i].own, 0, 0});
        accounts.set_rate(relay::AccountKind::identity, i, rates_[i].identity);
        accounts.set_rate(relay::AccountKind::network, i, rates_[i].network);
      }
      accounts.set_host_rate(host_);
      accounts.set_prefix_rate(prefix_, {24, 48});
      accounts.set_fair_share(fair_, 1u << 18);
    });
  }

  void connect() {
    const auto before = std::tuple(rates_, host_, prefix_, fair_);
    for (Rates& each : rates_) each = {};
    host_ = prefix_ = {};
    fair_ = 0;
    set_limits();
    const size_t number = below(kServers);
    session::Endpoint client, server;
    client.remote =
        golden::address_of(below(2) == 0 ? "198.51.100." + std::to_string(below(250)) + ":" + port()
                                         : "[2001:db8:7::" + std::to_string(below(250)) + "]:" + port());
    if (below(2) == 0) {
      std::memcpy(client.local.ip, own_address(is_v4(client.remote.ip)).ip, 16);
      client.local.interface = below(2) == 0 ? 0 : kLoopback;
    }
    server.remote = server_at(places_[number]);
    const uint32_t client_index = static_cast<uint32_t>(random_()) | 1,
                   server_index = static_cast<uint32_t>(random_()) | 1;
    session::CookieReply reply{};
    const auto none = [](uint32_t) { return false; };
    const auto seed = static_cast<uint8_t>(number + 1);
    const session::Initiation asking = stock::initiation(client_index, seed);
    if (table_.handshake(stock::bytes_of(asking), client, now_, none, reply).verdict == Verdict::cookie) {
      const session::Initiation again =
          stock::initiation_with(stock::cookie_in(reply, asking, seed), client_index, seed);
      table_.handshake(stock::bytes_of(again), client, now_, none, reply);
    }
    table_.handshake(stock::bytes_of(stock::response(server_index, client_index)), server, now_, none, reply);
    if (below(4) != 0 &&
        table_.transport(server_index, 32, client, now_, accounts_).verdict == Verdict::forward)
      by_socket_++;
    if (table_.usage(number).sessions > 0) connected_++;
    std::tie(rates_, host_, prefix_, fair_) = before;
    set_limits();
  }
  std::string port() { return std::to_string(1 + below(65535)); }

  /// Gives the kernel what the table has, as the daemon does.
  void teach() {
    if (table_.changes() == changes_) return;
    changes_ = table_.changes();
    known_ = table_.routes(now_);
    for (const omerta_leg& route : routes_.replace(known_)) count_ended(route);
  }
  void count_ended(const omerta_leg& route) {
    kernel_packets_ += route.packets;
    kernel_bytes_ += route.bytes;
  }

  void send() {
    omerta_address from = golden::address_of("198.51.100.3:1");
    uint32_t index = below(20) == 0 ? kOwnIndex : static_cast<uint32_t>(random_());
    bool within_v4 = false;
    if (!known_.empty() && below(20) != 0) {
      const omerta_leg& route = known_[below(known_.size())];
      kernel_.remember_way(route);  // now: two next hops may share a slot
      index = route.leg_id;
      std::memcpy(from.ip, route.source_ip, 16);
      from.port = route.source_port;
      within_v4 = is_v4(route.source_ip) && is_v4(route.next_ip);
      const size_t damage = below(30);
      if (damage == 0) from.port ^= 0x0100;
      if (damage == 1) from.ip[15] ^= 1;
      if (damage == 2) index ^= 1u << below(32);
      if (damage == 3) index = kOwnIndex;
    }
    std::vector<uint8_t> datagram(32 + below(below(3) == 0 ? 1400 : 100));
    for (uint8_t& byte : datagram) byte = static_cast<uint8_t>(random_());
    const uint32_t type = 4;
    std::memcpy(datagram.data(), &type, 4);
    std::memcpy(&datagram[4], &index, 4);
    Headers headers =
        arriving(from, within_v4 && below(4) == 0 ? UdpChecksum::absent : UdpChecksum::computed);
    headers.service = static_cast<uint8_t>(random_());
    const Packet packet = packet_of(headers, datagram);

    session::Endpoint endpoint;
    endpoint.remote = from;
    const bool expected = map_of_expected()[index % OMERTA_EXPECTED_INDICES] != 0;
    const relay::WireguardTable::Result wanted =
        index == kOwnIndex ? relay::WireguardTable::Result{}
                           : table_.transport(index, datagram.size(), endpoint, now_, accounts_);
    omerta_xdp_counters counters = kernel_.program().counters();
    const RunResult got = kernel_.program().run(packet, now_);
    const bool fresh = table_.changes() != changes_;  // it has become a session: the socket's, this once
    if (wanted.verdict == Verdict::forward && !fresh) {
      CHECK(got.action == XDP_TX);
      CHECK(got.packet == packet_of(leaving(headers, wanted.to.remote), datagram));
      counters.others[OMERTA_XDP_WIREGUARD_RELAYED_PACKETS]++;
      counters.others[OMERTA_XDP_WIREGUARD_RELAYED_BYTES] += datagram.size();
      forwarded_++;
    } else if (wanted.verdict == Verdict::refused_by_limit) {
      CHECK(got.action == XDP_DROP);
      counters.drops[wanted.limit]++;
      limited_++;
    } else {
      CHECK(fresh || wanted.verdict == Verdict::not_ours || wanted.verdict == Verdict::sessions_full);
      const bool passes = index == kOwnIndex || expected;
      CHECK(got.action == (passes ? XDP_PASS : XDP_DROP));
      CHECK(got.packet == packet);
      counters.others[index == kOwnIndex ? OMERTA_XDP_PASSED_OWN
                      : passes           ? OMERTA_XDP_PASSED_WIREGUARD_RELAY
                                         : OMERTA_XDP_DROP_UNKNOWN_INDEX]++;
      if (wanted.verdict == Verdict::forward) by_socket_++;
      (passes ? passed_ : dropped_)++;
    }
    CHECK(same_counters(kernel_.program().counters(), counters));
  }

  /// Packets, bytes and accounts in the end.
  void compare_totals() {
    for (const omerta_leg& route : routes_.all()) count_ended(route);
    uint64_t packets = 0;
    table_.for_each_charge([&](const omerta_leg& leg) { packets += leg.packets; });
    for (size_t i = 0; i < golden::kNetworks; i++)
      packets += accounts_.read(relay::AccountKind::network, i).packets;
    TEST("what the table counted went through the kernel, but for what made sessions");
    CHECK(packets == kernel_packets_ + by_socket_ && kernel_packets_ == forwarded_);
    const omerta_xdp_counters counters = kernel_.program().counters();
    CHECK(counters.others[OMERTA_XDP_WIREGUARD_RELAYED_BYTES] == kernel_bytes_);
    TEST("accounts were charged alike");
    for (const relay::AccountKind kind : {relay::AccountKind::identity, relay::AccountKind::network})
      for (size_t i = 0; i < golden::kIdentities; i++) {
        const omerta_account above = accounts_.read(kind, i), below = kernel_.accounts().read(kind, i);
        CHECK(above.refused == below.refused && above.demand == below.demand);
        CHECK(above.theoretical_arrival == below.theoretical_arrival);
      }
    CHECK(accounts_.host().theoretical_arrival == kernel_.accounts().host().theoretical_arrival);
    TEST("every outcome was seen often");
    CHECK(forwarded_ > kPackets / 4 && limited_ > 1000 && passed_ > 1000 && dropped_ > 1000);
    CHECK(connected_ > 100);
    std::printf("%zu forwarded, %zu beyond a limit, %zu passed, %zu dropped\n", forwarded_, limited_, passed_,
                dropped_);
  }

  const uint64_t* map_of_expected() {
    if (expected_ == nullptr) expected_ = map(kernel_.program().expected_fd(), OMERTA_EXPECTED_INDICES);
    return expected_;
  }

  struct Rates {
    omerta_rate own, identity, network;
  };

  std::mt19937 random_;
  BpfRelay kernel_;
  relay::Accounts accounts_{BpfRelay::kAccounts};
  relay::WireguardTable table_;
  RouteMap routes_;
  uint64_t now_ = 1'000'000'000;
  uint64_t changes_ = UINT64_MAX;
  std::vector<omerta_leg> known_;
  size_t places_[kServers]{};
  std::array<Rates, golden::kClasses> rates_{};
  omerta_rate host_{}, prefix_{};
  uint32_t fair_ = 0;
  const uint64_t* expected_ = nullptr;
  uint64_t kernel_packets_ = 0, kernel_bytes_ = 0, by_socket_ = 0;
  size_t forwarded_ = 0, limited_ = 0, passed_ = 0, dropped_ = 0, connected_ = 0;
};

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  return run_bpf_test([] {
    const char* given = std::getenv("OMERTA_SEED");
    const auto seed = static_cast<uint32_t>(given == nullptr ? 20261127 : std::strtoul(given, nullptr, 10));
    const std::string title = std::to_string(kPackets) + " messages, seed " + std::to_string(seed);
    TEST(title.c_str());
    Agreement(seed).run();
  });
}
