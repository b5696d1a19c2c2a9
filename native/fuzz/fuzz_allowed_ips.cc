// SPDX-License-Identifier: Apache-2.0
// Cryptokey routing against a model that knows nothing of tries: prefixes, each with its peer and when it
// got it; a look-up goes through all of them. Texts of prefixes are read as inet_pton(3) reads their
// addresses, and only with lengths that are plain numbers.
//
// input: operations, each an opcode u8 and its operands; addresses differ in few bits, so that prefixes
// contain each other
#include <arpa/inet.h>
#include <sodium.h>

#include <map>
#include <memory>

#include "fuzz/fuzz_input.h"
#include "session/peer.h"

using namespace omerta;
using namespace omerta::session;
using omerta::fuzz::require;

namespace {

constexpr size_t kPeers = 3;

struct Key {
  uint8_t family = 4;
  uint8_t length = 0;
  std::array<uint8_t, 16> address{};
  auto operator<=>(const Key&) const = default;
};

bool bit(const uint8_t* address, unsigned index) { return (address[index / 8] & 0x80u >> index % 8) != 0; }

/// The bits beyond the length are zero.
Key key_of(uint8_t family, const uint8_t* address, unsigned length) {
  Key key{family, static_cast<uint8_t>(length), {}};
  for (unsigned i = 0; i < length; i++)
    if (bit(address, i)) key.address[i / 8] = static_cast<uint8_t>(key.address[i / 8] | 0x80u >> i % 8);
  return key;
}

bool contains(const Key& key, uint8_t family, const uint8_t* address) {
  if (key.family != family) return false;
  for (unsigned i = 0; i < key.length; i++)
    if (bit(key.address.data(), i) != bit(address, i)) return false;
  return true;
}

struct Given {
  size_t peer;
  uint64_t when;
  uint64_t round;  ///< of replacements
};

struct World {
  LocalIdentity local;
  Qsbr qsbr{1};
  std::vector<std::unique_ptr<Peer>> peers;
  std::unique_ptr<AllowedIps> routes = std::make_unique<AllowedIps>(qsbr);
  std::map<Key, Given> model;
  uint64_t now = 0;
  uint64_t round = 0;

  World() : local(Key32{1}) {
    for (uint8_t i = 0; i < kPeers; i++) {
      Key32 key{};
      key[0] = static_cast<uint8_t>(9 + i);
      peers.push_back(std::make_unique<Peer>(local, key));
    }
  }
  ~World() {
    routes.reset();
    qsbr.offline(0);
    qsbr.reclaim();
  }

  AllowedIps::List& list(size_t peer) { return peers[peer]->allowed_ips; }
  void insert(const Prefix& prefix, size_t peer) {
    routes->insert(prefix, list(peer));
    model[key_of(prefix.family, prefix.address, prefix.length)] = {peer, now++, round};
  }
  void remove(const Prefix& prefix, size_t peer) {
    routes->remove(prefix, list(peer));
    const auto found = model.find(key_of(prefix.family, prefix.address, prefix.length));
    if (found != model.end() && found->second.peer == peer) model.erase(found);
  }
  void look_up(uint8_t family, const uint8_t* address) {
    std::optional<size_t> best;
    unsigned longest = 0;
    for (const auto& [key, given] : model)
      if (contains(key, family, address) && (!best.has_value() || key.length >= longest)) {
        best = given.peer;
        longest = key.length;
      }
    require(routes->lookup(family, address) == (best.has_value() ? peers[*best].get() : nullptr));
  }
  /// Each peer has its prefixes in the order it was given them.
  void check() {
    for (size_t peer = 0; peer < kPeers; peer++) {
      std::map<uint64_t, Key> expected;
      for (const auto& [key, given] : model)
        if (given.peer == peer) expected[given.when] = key;
      require(list(peer).size() == expected.size());
      auto next = expected.begin();
      AllowedIps::for_each(list(peer), [&](const Prefix& prefix) {
        require(next != expected.end() &&
                next->second == key_of(prefix.family, prefix.address, prefix.length));
        ++next;
      });
      require(next == expected.end());
    }
  }
};

std::array<uint8_t, 16> address_from(fuzz::Input& input) {
  std::array<uint8_t, 16> address{};
  for (const size_t place : {size_t{0}, size_t{3}, size_t{8}, size_t{15}}) address[place] = input.byte();
  return address;
}

/// nullopt: the length is more than the family has, which is refused.
std::optional<Prefix> prefix_from(fuzz::Input& input) {
  const uint8_t what = input.byte();
  const uint8_t family = what & 0x80 ? 6 : what & 0x40 ? 5 : 4;
  const unsigned length = input.byte();
  const std::array<uint8_t, 16> address = address_from(input);
  const auto prefix = Prefix::make(family, address.data(), length);
  require(prefix.has_value() == ((family == 4 && length <= 32) || (family == 6 && length <= 128)));
  if (prefix.has_value()) {
    const Key key = key_of(family, address.data(), length);
    require(prefix->family == family && prefix->length == length &&
            std::memcmp(prefix->address, key.address.data(), family == 4 ? 4 : 16) == 0);
  }
  return prefix;
}

/// A text is a prefix when its address is one for inet_pton(3), and its length plain digits.
void parse(const std::string& text) {
  const auto prefix = Prefix::parse(text);
  const size_t slash = text.find('/');
  const std::string host = text.substr(0, slash);
  uint8_t address[16] = {};
  const bool v6 = host.find(':') != std::string::npos;
  const bool host_right = inet_pton(v6 ? AF_INET6 : AF_INET, host.c_str(), address) == 1;
  unsigned length = v6 ? 128 : 32;
  bool length_right = true;
  if (slash != std::string::npos) {
    const std::string digits = text.substr(slash + 1);
    unsigned value = 0;
    for (const char c : digits) {
      length_right = length_right && c >= '0' && c <= '9' && value <= length;
      if (length_right) value = value * 10 + static_cast<unsigned>(c - '0');
    }
    length_right = length_right && !digits.empty() && value <= length;
    length = value;
  }
  require(prefix.has_value() == (host_right && length_right));
  if (prefix.has_value()) {
    const Key key = key_of(v6 ? 6 : 4, address, length);
    require(prefix->family == key.family && prefix->length == key.length &&
            std::memcmp(prefix->address, key.address.data(), v6 ? 16 : 4) == 0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool ready = sodium_init() >= 0;
  require(ready);
  fuzz::Input input(data, size);
  World world;
  for (int steps = 0; !input.empty() && steps < 200; steps++) {
    const uint8_t operation = input.byte();
    const size_t peer = (operation >> 4) % kPeers;
    switch (operation % 8) {
      case 0:
      case 1:
        if (const auto prefix = prefix_from(input); prefix.has_value()) world.insert(*prefix, peer);
        break;
      case 2:
        if (const auto prefix = prefix_from(input); prefix.has_value()) world.remove(*prefix, peer);
        break;
      case 3:
        world.routes->clear(world.list(peer));
        std::erase_if(world.model, [peer](const auto& entry) { return entry.second.peer == peer; });
        break;
      case 4: {  // all that a peer has is replaced
        world.routes->begin_replacement();
        world.round++;
        for (uint8_t left = input.byte() % 4; left != 0; left--)
          if (const auto prefix = prefix_from(input); prefix.has_value()) world.insert(*prefix, peer);
        world.routes->end_replacement(world.list(peer));
        std::erase_if(world.model, [&world, peer](const auto& entry) {
          return entry.second.peer == peer && entry.second.round != world.round;
        });
        break;
      }
      case 5: {
        const std::vector<uint8_t> text = input.bytes(input.byte() % 48);
        parse({text.begin(), text.end()});
        break;
      }
      case 6:
        world.qsbr.quiescent(0);
        world.qsbr.reclaim();
        break;
      default: {
        const std::array<uint8_t, 16> address = address_from(input);
        world.look_up(operation & 8 ? 6 : 4, address.data());
      }
    }
    world.check();
  }
  return 0;
}
