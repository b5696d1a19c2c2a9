// SPDX-License-Identifier: Apache-2.0
// Peers: set, exported with all they have become, removed.
#include <sodium.h>

#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Engine;

/// Which fields of a packed change are given.
enum : uint32_t {
  kRemove = 1,
  kUpdateOnly = 2,
  kPreshared = 4,
  kAddress = 8,
  kLeg = 16,
  kKeepalive = 32,
  kReplace = 64,
  kRedirect = 128,
  kTransit = 256  ///< and above it, three bits of session::Transit
};

/// Packed changes of peers, repeated:
///   key 32 | flags u32 | preshared key 32 | ip 16 | port u16 | zero u16 | leg u32 |
///   persistent keepalive u32, seconds | count u32 | count × (family u8 | length u8 | remove u8 | zero u8 |
///   ip 16)
/// A flag says that a field is given, see `enum` above; the ip of a family 4 prefix is its first 4 bytes.
std::vector<session::PeerSettings> changes_of(const Engine& engine, const Napi::Value& value) {
  Unpacker batch(value, "peers");
  std::vector<session::PeerSettings> peers;
  while (!batch.done()) {
    session::PeerSettings& peer = peers.emplace_back();
    peer.public_key = batch.take_key();
    const auto flags = batch.take<uint32_t>();
    peer.remove = (flags & kRemove) != 0;
    peer.update_only = (flags & kUpdateOnly) != 0;
    peer.replace_allowed_ips = (flags & kReplace) != 0;
    peer.redirect = (flags & kRedirect) != 0;
    if ((flags & kTransit) != 0) {
      const uint32_t transit = (flags >> 9) % 8;
      if (transit > static_cast<uint32_t>(session::Transit::exit_and_lan))
        throw_error(value.Env(), "BAD_ARGUMENT", "transit: no such one");
      peer.transit = static_cast<session::Transit>(transit);
    }
    const Bytes preshared = batch.take(32);
    if ((flags & kPreshared) != 0) std::memcpy(peer.preshared_key.emplace().data(), preshared.data(), 32);
    const omerta_address address = batch.take_address();
    batch.take<uint16_t>();
    const auto leg = batch.take<uint32_t>();
    if ((flags & kAddress) != 0) {
      peer.endpoint.emplace().remote = address;
    } else if ((flags & kLeg) != 0) {
      peer.endpoint = engine.endpoint_of_leg(leg);
      if (!peer.endpoint.has_value())
        throw_error(value.Env(), "BAD_ARGUMENT", "endpoint: no such deliver leg");
    }
    const auto keepalive = batch.take<uint32_t>();
    if ((flags & kKeepalive) != 0) peer.persistent_keepalive = keepalive * kSecond;
    const auto count = batch.take<uint32_t>();
    for (uint32_t i = 0; i < count; i++) {
      const Bytes packed = batch.take(20);
      const auto prefix = session::Prefix::make(packed[0], packed.data() + 4, packed[1]);
      if (!prefix.has_value()) throw_error(value.Env(), "BAD_ARGUMENT", "allowedIps: not a prefix");
      peer.allowed_ips.emplace_back(*prefix, packed[2] != 0);
    }
  }
  return peers;
}

/// (packed changes, whether they replace all peers). false: the session table is full.
Napi::Value set_peers(Engine& engine, const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), engine.set_peers(changes_of(engine, info[0]), info[1].ToBoolean()));
}

/// As set_peers, without changing anything.
Napi::Value has_room(Engine& engine, const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(),
                            engine.sessions().has_room(changes_of(engine, info[0]), info[1].ToBoolean()));
}

/// Peers as they are, in the order they were added, packed:
///   key 32 | preshared key 32 | ip 16 | port u16 | zero u16 | leg u32 | handshake u64, ns since 1970 |
///   received u64 | sent u64, bytes | persistent keepalive u32, seconds | count u32 | count × prefix as in
///   changes_of()
Napi::Value export_peers(Engine& engine, const Napi::CallbackInfo& info) {
  std::vector<uint8_t> packed;
  const auto put = [&packed](const void* data, size_t size) {
    const auto* bytes = static_cast<const uint8_t*>(data);
    packed.insert(packed.end(), bytes, bytes + size);
  };
  const auto put_number = [&put]<class T>(T number) { put(&number, sizeof number); };
  engine.sessions().for_each([&](session::Peer& peer) {
    const session::Endpoint endpoint = peer.endpoint();
    put(peer.remote.public_key.data(), 32);
    put(peer.remote.preshared_key.data(), 32);
    put(packed_address(endpoint.remote).data(), 18);
    put_number(uint16_t{0});
    put_number(endpoint.receive_leg);
    put_number(peer.last_handshake_wall);
    put_number(peer.rx_bytes.load(std::memory_order_relaxed));
    put_number(peer.tx_bytes.load(std::memory_order_relaxed));
    put_number(static_cast<uint32_t>(peer.persistent_keepalive / kSecond));
    put_number(static_cast<uint32_t>(peer.allowed_ips.size()));
    session::AllowedIps::for_each(peer.allowed_ips, [&](const session::Prefix& prefix) {
      const uint8_t head[4] = {prefix.family, prefix.length};
      put(head, sizeof head);
      put(prefix.address, 16);
    });
  });
  auto out = Napi::Uint8Array::New(info.Env(), packed.size());
  if (!packed.empty()) std::memcpy(out.Data(), packed.data(), packed.size());
  sodium_memzero(packed.data(), packed.size());
  return out;
}

/// Keys, 32 bytes each.
Napi::Value remove_peers(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker keys(info[0], "keys");
  std::vector<Key32> list;
  while (!keys.done()) list.push_back(keys.take_key());
  engine.remove_peers(list);
  return info.Env().Undefined();
}

/// Ages in ms; what there is not yet is left out.
Napi::Value peers(Engine& engine, const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto list = Napi::Array::New(env);
  const Nanoseconds now = boot_clock();
  const auto age = [env, now](Nanoseconds then) -> Napi::Value {
    if (then == 0) return env.Undefined();
    return Napi::Number::New(env, static_cast<double>(now > then ? now - then : 0) / 1e6);
  };
  engine.sessions().for_each([&](session::Peer& peer) {
    auto out = Napi::Object::New(env);
    out.Set("publicKey", Napi::Buffer<uint8_t>::Copy(env, peer.remote.public_key.data(), 32));
    const session::Endpoint endpoint = peer.endpoint();
    if (endpoint.known()) {
      const auto address = packed_address(endpoint.remote);
      out.Set("address", Napi::Buffer<uint8_t>::Copy(env, address.data(), address.size()));
      out.Set("leg", endpoint.receive_leg);
    }
    out.Set("handshakeAgeMs", age(peer.last_handshake.load(std::memory_order_relaxed)));
    out.Set("lastReceivedMs", age(peer.last_received.load(std::memory_order_relaxed)));
    if (session::Keypair* first = peer.current.load(std::memory_order_relaxed); first != nullptr) {
      const session::Keypair* second = first->negotiation.keypair.get();
      out.Set("suite", crypto::name_of(first->sending().suite()));
      out.Set("replayWindow", static_cast<double>((second != nullptr ? second : first)->window()));
    }
    out.Set("rxBytes", static_cast<double>(peer.rx_bytes.load(std::memory_order_relaxed)));
    out.Set("txBytes", static_cast<double>(peer.tx_bytes.load(std::memory_order_relaxed)));
    list.Set(list.Length(), out);
  });
  return list;
}

Napi::Value set_private_key(Engine& engine, const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray()) {
    engine.set_private_key(std::nullopt);
    return info.Env().Undefined();
  }
  Key32 key = key_of(info[0], "privateKey");
  engine.set_private_key(key);
  sodium_memzero(key.data(), key.size());
  return info.Env().Undefined();
}

constexpr EngineCall kCalls[] = {
    {"setPeers", set_peers},       {"hasRoom", has_room}, {"exportPeers", export_peers},
    {"removePeers", remove_peers}, {"peers", peers},      {"setPrivateKey", set_private_key},
};

}  // namespace

std::span<const EngineCall> peer_calls() { return kCalls; }

}  // namespace omerta::addon
