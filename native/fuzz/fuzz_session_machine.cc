// SPDX-License-Identifier: Apache-2.0
// The whole session state machine: three nodes that are each other's peers, the network between them, the
// clock, and somebody on the network who sees all of it, repeats, changes and invents. The input is a
// program of two-byte instructions (`act`). After it the network is healed, and the nodes must reach each
// other again.
//
// What has to hold after every instruction:
//   - no node seals two packets under one session and counter
//   - what a node takes for authentic was made by a node, and is taken once
//   - nothing else moves an endpoint, or draws an answer larger than itself
//   - each session a peer has is found by its index, and no other index is found
//   - no peer has more than 128 packets waiting
#include <sodium.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <set>
#include <string>

#include "crypto/blake2s.h"
#include "session/session_table.h"
#include "session/transport_message.h"

using namespace omerta;
using namespace omerta::session;

namespace {

constexpr size_t kNodes = 3;
constexpr size_t kKept = 64;  ///< datagrams in flight, and datagrams remembered by the attacker
constexpr size_t kMaxInstructions = 400;
constexpr uint8_t kBothSuites =
    suite_bit(crypto::Suite::chacha20_poly1305) | suite_bit(crypto::Suite::aes_256_gcm);

void require(bool condition) {
  if (!condition) std::abort();
}

using Datagram = std::vector<uint8_t>;

omerta_address address(uint8_t host, uint16_t port) {
  omerta_address a{};
  a.ip[10] = a.ip[11] = 0xff;
  a.ip[12] = 10;
  a.ip[15] = host;
  a.port = port;
  return a;
}

Endpoint endpoint(const omerta_address& at) {
  Endpoint e;
  e.remote = at;
  return e;
}

/// The part of a message that only who knows the keys could write. Not the sender's index and the MACs of a
/// handshake message, which anybody who knows the responder's public key may write anew.
std::string authentic_part(const Datagram& message) {
  const size_t begin = message[0] == kResponseType ? 12 : 8;
  const size_t end = message.size() - (message[0] <= kResponseType ? 32 : 0);
  return {message.begin() + static_cast<long>(begin), message.begin() + static_cast<long>(end)};
}

struct World;

class Node final : public SessionOutput {
 public:
  Node(World& world, uint8_t number);

  void send(const Endpoint& to, Bytes message, uint8_t traffic_class) override;
  size_t inner_mtu() const override { return 1420; }
  void session_established(Peer&, const Endpoint&) override {}
  void endpoint_changed(Peer&) override {}
  void path_needed(Peer&) override {}
  void session_lost(Peer&) override {}
  void suite_step(SuiteStep) override {}
  void path_event(Peer&, const PathEvent&) override {}
  void path_duplicate() override {}

  void set_peer(const Node& other, bool with_endpoint, std::optional<Key32> psk = std::nullopt,
                std::optional<Nanoseconds> keepalive = std::nullopt);
  void seal_burst(const Node& other, size_t count);
  void send_suite_frame(const Node& other, uint8_t kind);
  void ask_without_a_secret();
  bool open(Datagram message, const Endpoint& from);
  void check();

  const uint8_t number;
  omerta_address at;
  SessionTable table;
  crypto::Aead aead{crypto::AeadChoice{}};
  size_t answered = 0;                                     ///< bytes sent since it was set to 0
  std::set<std::string> accepted;                          ///< authentic parts of what was taken
  std::set<std::pair<uint32_t, uint64_t>> sealed, opened;  ///< receiver index and counter
  std::set<uint32_t> indices;                              ///< that it ever told anybody
  std::set<std::string> heard;

 private:
  World& world_;
};

struct Flying {
  omerta_address from, to;
  Datagram bytes;
};

struct World {
  uint64_t random_state = 1;
  Nanoseconds now = 1000 * kSecond;
  Nanoseconds set_back = 0;  ///< so much the wall clock was, which timestamps are made of
  std::deque<Flying> flying;
  std::deque<Flying> remembered;
  std::set<std::string> genuine;  ///< authentic parts of what nodes sent
  std::deque<Node> nodes;
  uint64_t written = 0;

  uint64_t random() {  // splitmix64 (Steele, Lea, Flood 2014)
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  Node* at(const omerta_address& where) {
    for (Node& node : nodes)
      if (std::memcmp(&node.at, &where, sizeof where) == 0) return &node;
    return nullptr;
  }
  void deliver(const Flying& message);
  void turn();
  void act(uint8_t what, uint8_t argument);
  void heal();
};

Key32 key_of(uint8_t number) {
  Key32 key;
  key.fill(static_cast<uint8_t>(number + 1));
  return key;
}

SessionEnvironment environment(World& world, uint8_t number) {
  return {[&world](std::span<uint8_t> out) {
            for (uint8_t& byte : out) byte = static_cast<uint8_t>(world.random());
          },
          [&world] {
            Timestamp stamp{};
            const Nanoseconds wall = world.now - world.set_back;
            store(stamp.data(), __builtin_bswap64((uint64_t{1} << 62) + wall / kSecond));
            store(stamp.data() + 8, __builtin_bswap32(static_cast<uint32_t>(wall % kSecond) & 0xff000000));
            return stamp;
          },
          {},
          number == 2 ? uint8_t{0} : kBothSuites,  // the third is a stock peer
          kWideWindow};
}

Node::Node(World& world, uint8_t number_)
    : number(number_),
      at(address(static_cast<uint8_t>(number_ + 1), 1)),
      table(key_of(number_), kNodes - 1, 1, environment(world, number_)),
      world_(world) {}

void Node::send(const Endpoint& to, Bytes message, uint8_t) {
  const Datagram bytes(message.begin(), message.end());
  answered += bytes.size();
  if (bytes[0] == kTransportType)
    require(sealed.emplace(load<uint32_t>(&bytes[4]), load<uint64_t>(&bytes[8])).second);
  if (bytes[0] == kInitiationType || bytes[0] == kResponseType) indices.insert(load<uint32_t>(&bytes[4]));
  if (bytes[0] != kCookieReplyType) world_.genuine.insert(authentic_part(bytes));
  for (auto* queue : {&world_.flying, &world_.remembered}) {
    queue->push_back({at, to.remote, bytes});
    if (queue->size() > kKept) queue->pop_front();
  }
}

void Node::set_peer(const Node& other, bool with_endpoint, std::optional<Key32> psk,
                    std::optional<Nanoseconds> keepalive) {
  PeerSettings settings;
  settings.public_key = public_key_of(key_of(other.number));
  if (with_endpoint) settings.endpoint = endpoint(other.at);
  settings.preshared_key = psk;
  settings.persistent_keepalive = keepalive;
  settings.allowed_ips = {*Prefix::parse(other.number == 0 ? "10.0.0.0/8" : "10.1.0.0/16")};
  require(table.set_peers({settings}, world_.now, *this));
}

/// What a worker does with packets from TUN.
void Node::seal_burst(const Node& other, size_t count) {
  Peer* peer = nullptr;
  const Key32 key = public_key_of(key_of(other.number));
  table.for_each([&](Peer& each) { peer = each.remote.public_key == key ? &each : peer; });
  if (peer == nullptr) return;
  Keypair* keypair = peer->sending();
  const Endpoint to = peer->endpoint();
  if (keypair == nullptr || keypair->expired(world_.now) || !to.known()) return;
  const CounterRange taken = keypair->take_counters(count, world_.now);
  size_t bytes = 0;
  for (size_t i = 0; i < taken.count; i++) {
    const std::string text = "burst " + std::to_string(world_.written++);
    Datagram message(kTransportOverhead + padded_size(text.size(), inner_mtu()));
    crypto::AeadJob job =
        write_transport(message.data(), *keypair, taken.first + i, text.size(), inner_mtu(),
                        [&](uint8_t* place) { std::memcpy(place, text.data(), text.size()); });
    aead.seal(std::span(&job, 1));
    require(job.ok);
    send(to, message, 0);
    bytes += message.size();
  }
  if (taken.count != 0) table.data_sent(*keypair, bytes, world_.now, *this);
}

/// A peer whose public key is a point of low order: what is agreed with it would be known to everybody, so
/// it is sent nothing.
void Node::ask_without_a_secret() {
  PeerSettings settings;
  settings.endpoint = endpoint(address(77, 7));
  require(table.set_peers({settings}, world_.now, *this));
  answered = 0;
  table.start_handshake(settings.public_key, world_.now, *this);
  require(answered == 0);
  table.remove_peers({settings.public_key});
}

/// A peer that says of suites what it likes: an offer of its own choice, a proof of nothing, garbage.
void Node::send_suite_frame(const Node& other, uint8_t kind) {
  const uint64_t chosen = world_.random();
  const SuiteOffer offer{static_cast<uint8_t>(chosen), static_cast<uint32_t>(chosen >> 8),
                         static_cast<uint32_t>(chosen >> 40)};
  SuiteFrame frame = kind % 3 == 0 ? encode_offer(offer, (chosen & 1) != 0)
                                   : encode_proof(static_cast<ProofState>(chosen % 3));
  if (kind % 3 == 2) frame[4 + chosen % (frame.size() - 4)] ^= 0x40;
  table.send_inside(public_key_of(key_of(other.number)), frame, world_.now, *this);
}

/// What a worker does with a WireGuard message. Returns whether it was taken for authentic.
bool Node::open(Datagram message, const Endpoint& from) {
  const omerta_classification kind = omerta_classify(message.data(), static_cast<__u32>(message.size()));
  if (kind.verdict != OMERTA_WIREGUARD) return false;
  const Nanoseconds now = world_.now;
  if (message[0] == kInitiationType)
    return table.handle_initiation(load<Initiation>(message.data()), from, now, *this) == Outcome::accepted;
  if (message[0] == kResponseType)
    return table.handle_response(load<Response>(message.data()), from, now, *this) == Outcome::accepted;
  if (message[0] == kCookieReplyType) {
    table.handle_cookie_reply(load<CookieReply>(message.data()), now);
    return false;
  }
  Keypair* keypair = table.find(load<uint32_t>(&message[4]));
  if (keypair == nullptr || keypair->expired(now)) return false;
  crypto::AeadJob job{&keypair->receive_key, load<uint64_t>(&message[8]), &message[kTransportHeaderSize],
                      message.size() - kTransportOverhead, false};
  aead.open(std::span(&job, 1));
  if (!job.ok || !keypair->accept(job.counter)) return false;
  require(opened.emplace(keypair->local_index, job.counter).second);
  table.authenticated(*keypair, from, now, *this);
  const Bytes text(job.text, job.size);
  if (text.empty()) return true;
  if (is_suite_frame(text)) {
    const bool readable = decode_offer(text).has_value() || decode_proof(text).has_value();
    if (number != 2) require(table.handle_suite_frame(*keypair, text, now, *this) == readable);
    return true;
  }
  SessionTable::data_received(keypair->peer, now);
  const std::string said(text.begin(), text.end());
  heard.insert(said.substr(0, said.find('\0')));
  return true;
}

void Node::check() {
  size_t sessions = 0;
  table.for_each([&](Peer& peer) {
    require(peer.staged.size() <= kMaxStagedPackets);
    for (const auto* slot : {&peer.current, &peer.previous, &peer.next}) {
      Keypair* keypair = slot->load();
      if (keypair == nullptr) continue;
      sessions++;
      require(table.find(keypair->local_index) == keypair);
      Keypair* second = keypair->negotiation.keypair.get();
      require(second == nullptr || table.find(second->local_index) == second);
      require(&keypair->sending() == keypair || &keypair->sending() == second);
    }
  });
  require(table.size() <= kNodes - 1);
  require(sessions == static_cast<size_t>(std::ranges::count_if(
                          indices, [&](uint32_t index) { return table.find(index) != nullptr; })));
}

void World::deliver(const Flying& message) {
  Node* node = at(message.to);
  if (node == nullptr || message.bytes.empty()) return;
  std::map<Key32, Endpoint> before;
  node->table.for_each([&](Peer& peer) { before[peer.remote.public_key] = peer.endpoint(); });
  const bool readable =
      message.bytes[0] != kCookieReplyType &&
      omerta_classify(message.bytes.data(), static_cast<__u32>(message.bytes.size())).verdict ==
          OMERTA_WIREGUARD;
  const std::string part = readable ? authentic_part(message.bytes) : "";
  const bool fresh = genuine.contains(part) && !node->accepted.contains(part);
  node->answered = 0;
  const Endpoint from = endpoint(message.from);
  const bool accepted = node->open(message.bytes, from);
  require(!accepted || fresh);
  if (!accepted) require(node->answered <= message.bytes.size());
  if (accepted) node->accepted.insert(part);
  node->table.for_each([&](Peer& peer) {
    const Endpoint now_at = peer.endpoint();
    if (now_at.same_path(before[peer.remote.public_key])) return;
    require(accepted && now_at.same_path(from));
  });
}

void World::turn() {
  for (Node& node : nodes) {
    node.table.handle_timers(now, node);
    node.table.qsbr().quiescent(0);
    node.table.reclaim();
  }
}

void World::act(uint8_t what, uint8_t argument) {
  Node& node = nodes[argument % kNodes];
  Node& other = nodes[(argument % kNodes + 1 + (argument / kNodes) % 2) % kNodes];
  const uint8_t rest = argument / (2 * kNodes);  // 0 to 42
  const auto attacker = address(99, 9);
  const auto take = [&](std::deque<Flying>& queue) {
    return queue.begin() + argument % static_cast<long>(queue.size());
  };
  switch (what % 20) {
    case 0:  // the next datagram arrives
      if (flying.empty()) return;
      {
        const Flying first = flying.front();
        flying.pop_front();
        deliver(first);
      }
      return;
    case 1:  // one arrives out of order
      if (flying.empty()) return;
      {
        const auto it = take(flying);
        const Flying one = *it;
        flying.erase(it);
        deliver(one);
      }
      return;
    case 2:  // one is lost
      if (!flying.empty()) flying.erase(take(flying));
      return;
    case 3:  // all that are under way arrive, and what they lead to
      for (int i = 0; i < 64 && !flying.empty(); i++) {
        const Flying first = flying.front();
        flying.pop_front();
        deliver(first);
      }
      return;
    case 4:  // the attacker repeats something, from its own address
    case 5:  // or from the sender's
      if (remembered.empty()) return;
      {
        Flying again = *take(remembered);
        if (what % 20 == 4) again.from = attacker;
        deliver(again);
      }
      return;
    case 6:  // the attacker changes a byte; mac1 is made good again
      if (remembered.empty()) return;
      {
        Flying changed = remembered.back();
        changed.from = attacker;
        changed.bytes[argument % changed.bytes.size()] ^= static_cast<uint8_t>(1 + argument % 255);
        Node* target = at(changed.to);
        if (changed.bytes[0] <= kResponseType && changed.bytes.size() >= 92 && target != nullptr) {
          const size_t size = changed.bytes.size();
          const Mac16 mac1 =
              crypto::blake2s_mac(target->table.local().mac1_key, {Bytes(changed.bytes.data(), size - 32)});
          std::memcpy(&changed.bytes[size - 32], mac1.data(), mac1.size());
        }
        deliver(changed);
      }
      return;
    case 7:  // the attacker cuts or lengthens something
      if (remembered.empty()) return;
      {
        Flying cut = remembered.back();
        cut.from = attacker;
        cut.bytes.resize(argument < 128 ? argument : cut.bytes.size() + argument - 127);
        deliver(cut);
      }
      return;
    case 8:  // a packet for a peer
      if (rest >= 32) return node.send_suite_frame(other, rest);
      {
        const std::string text = "packet " + std::to_string(written++) + std::string(rest, '.');
        node.table.send_inside(public_key_of(key_of(other.number)),
                               Bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size()), now, node);
      }
      return;
    case 9:
      return node.seal_burst(other, 1 + rest % 24);
    case 10:  // 0.1 ms to 255 s pass
      now += (argument < 64    ? argument * (kMillisecond / 10)
              : argument < 192 ? (argument - 63) * 20 * kMillisecond
                               : (argument - 191) * 4 * kSecond) +
             1;
      return turn();
    case 11:
      node.table.start_handshake(public_key_of(key_of(other.number)), now, node);
      return;
    case 12:  // a node moves
      node.at.port = static_cast<uint16_t>(1 + rest % 3);
      return;
    case 13:
      return node.set_peer(other, true);
    case 14: {
      Key32 psk{};
      psk[0] = rest & 1;
      return node.set_peer(other, false, psk);
    }
    case 15:
      return node.set_peer(other, false, std::nullopt, (rest % 3) * 7 * kSecond);
    case 16:  // with a removed peer its timestamps are forgotten: an old initiation is new again
      node.table.remove_peers({public_key_of(key_of(other.number))});
      node.accepted.clear();
      if (rest >= 40) node.ask_without_a_secret();
      return;
    case 17:
      if (rest >= 40) {
        set_back += std::min(now - set_back, (rest - 39) * 300 * kSecond);
        return;
      }
      if ((rest & 1) != 0) return node.table.suspend();
      return node.table.resume(now);
    case 18: {  // another private key, none, or the first one again
      const std::optional<Key32> key =
          rest % 3 == 1 ? std::nullopt
                        : std::optional(key_of(static_cast<uint8_t>(node.number + 10 * (rest % 3))));
      return node.table.set_private_key(key, now);
    }
    case 19:  // so many initiations that the node asks for cookies; only their mac1 is right
      for (int i = 0; i < 2 + rest; i++) {
        Flying flood{attacker, node.at, Datagram(sizeof(Initiation))};
        flood.bytes[0] = kInitiationType;
        store(&flood.bytes[8], random());
        const Mac16 mac1 = crypto::blake2s_mac(node.table.local().mac1_key,
                                               {Bytes(flood.bytes.data(), sizeof(Initiation) - 32)});
        std::memcpy(&flood.bytes[sizeof(Initiation) - 32], mac1.data(), mac1.size());
        deliver(flood);
      }
      return;
  }
}

/// Nobody disturbs any more, and all nodes know each other: each reaches each within the time that a
/// handshake may take to be tried again.
void World::heal() {
  flying.clear();
  for (Node& node : nodes) {
    node.table.set_private_key(key_of(node.number), now);
    node.table.resume(now);
    for (const Node& other : nodes)
      if (&other != &node) node.set_peer(other, true, Key32{}, 0);
  }
  std::vector<std::pair<Node*, std::string>> expected;
  for (Nanoseconds passed = 0; passed < 12 * kSecond; passed += 250 * kMillisecond) {
    if (passed % (4 * kSecond) == 0)
      for (Node& node : nodes)
        for (Node& other : nodes) {
          if (&other == &node) continue;
          const std::string text = "healed " + std::to_string(written++);
          if (passed >= 8 * kSecond) expected.emplace_back(&other, text);
          node.table.send_inside(public_key_of(key_of(other.number)),
                                 Bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size()), now,
                                 node);
        }
    act(3, 0);
    now += 250 * kMillisecond;
    turn();
    act(3, 0);
    for (Node& node : nodes) node.check();
  }
  for (const auto& [node, text] : expected) require(node->heard.contains(text));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool ready = sodium_init() >= 0;
  require(ready);
  World world;
  for (uint8_t i = 0; i < kNodes; i++) world.nodes.emplace_back(world, i);
  for (Node& node : world.nodes) {
    node.table.qsbr().quiescent(0);
    for (const Node& other : world.nodes)
      if (&other != &node) node.set_peer(other, other.number < node.number);
  }
  for (size_t i = 0; i + 1 < std::min(size, 2 * kMaxInstructions); i += 2) {
    world.act(data[i], data[i + 1]);
    for (Node& node : world.nodes) node.check();
  }
  world.heal();
  return 0;
}
