// SPDX-License-Identifier: Apache-2.0
// N-API surface of the native engine. Everything that crosses often crosses in batches: events and
// counters lie in memory both sides see, legs, frames and control payloads come packed in one buffer.
// ts/engine/native/native-engine.ts is the only caller and the place where this is documented for users.
#include <napi.h>
#include <sodium.h>

#include <cerrno>
#include <system_error>

#include "crypto/aead.h"
#include "engine/engine.h"

namespace {

using omerta::Key32;
using omerta::engine::Accelerator;
using omerta::engine::Accelerators;
using omerta::engine::AcceleratorState;
using omerta::engine::Engine;

[[noreturn]] void throw_error(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  throw error;
}

[[noreturn]] void throw_system_error(Napi::Env env, const std::system_error& error) {
  const int number = error.code().value();
  throw_error(env, number == EADDRINUSE ? "EADDRINUSE" : std::strerror(number), error.what());
}

/// Runs what may fail at a system call, with the failure told as the constructor tells its own.
template <class Call>
void system_call(Napi::Env env, const Call& call) {
  try {
    call();
  } catch (const std::system_error& error) {
    throw_system_error(env, error);
  }
}

std::span<const uint8_t> bytes_of(const Napi::Value& value, const char* field) {
  if (!value.IsTypedArray())
    throw_error(value.Env(), "BAD_ARGUMENT", std::string(field) + ": expected a Uint8Array");
  auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.ByteLength()};
}

Key32 key_of(const Napi::Value& value, const char* field) {
  const auto bytes = bytes_of(value, field);
  if (bytes.size() != 32)
    throw_error(value.Env(), "BAD_ARGUMENT", std::string(field) + ": expected 32 bytes");
  Key32 key;
  std::memcpy(key.data(), bytes.data(), key.size());
  return key;
}

double number_of(const Napi::Object& object, const char* field) {
  return object.Get(field).As<Napi::Number>().DoubleValue();
}

/// Reads a packed batch; every read is checked against its end.
class Unpacker {
 public:
  Unpacker(Napi::Env env, std::span<const uint8_t> bytes) : env_(env), bytes_(bytes) {}
  bool done() const { return at_ == bytes_.size(); }
  std::span<const uint8_t> take(size_t size) {
    if (size > bytes_.size() - at_) throw_error(env_, "BAD_ARGUMENT", "packed batch: truncated");
    const auto part = bytes_.subspan(at_, size);
    at_ += size;
    return part;
  }
  uint32_t take_u32() { return omerta::load<uint32_t>(take(4).data()); }

 private:
  Napi::Env env_;
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
};

/// ip 16 | port u16 little-endian, as TypeScript writes addresses.
omerta_address address_of(std::span<const uint8_t> bytes) {
  omerta_address address{};
  std::memcpy(address.ip, bytes.data(), 16);
  address.port = __builtin_bswap16(omerta::load<uint16_t>(bytes.data() + 16));
  return address;
}

constexpr std::array kUdpOffloads = {Accelerator::udp_gro, Accelerator::udp_gso};
constexpr std::array kTunOffloads = {Accelerator::tun_checksum, Accelerator::tun_tcp, Accelerator::tun_udp};

/// Appends name, state and reason of each.
void describe_accelerators(Napi::Array list, const Accelerators& accelerators,
                           std::span<const Accelerator> which) {
  for (const Accelerator accelerator : which) {
    auto out = Napi::Object::New(list.Env());
    out.Set("name", std::string(Accelerators::name(accelerator)));
    out.Set("state", std::string(Accelerators::name(accelerators.state(accelerator))));
    out.Set("reason", accelerators.reason(accelerator));
    list.Set(list.Length(), out);
  }
}

/// The offloads of a TUN interface as they would be found if one was opened now.
Napi::Value test_tun_offloads(const Napi::CallbackInfo& info) {
  auto list = Napi::Array::New(info.Env());
  describe_accelerators(list, Accelerators({false, false, true, true, true}, true), kTunOffloads);
  return list;
}

class NativeEngine : public Napi::ObjectWrap<NativeEngine> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeEngine",
                       {
                           InstanceAccessor<&NativeEngine::port>("port"),
                           InstanceMethod<&NativeEngine::event_memory>("eventMemory"),
                           InstanceMethod<&NativeEngine::counter_memory>("counterMemory"),
                           InstanceMethod<&NativeEngine::instrument_memory>("instrumentMemory"),
                           InstanceMethod<&NativeEngine::queues>("queues"),
                           InstanceMethod<&NativeEngine::describe>("describe"),
                           InstanceMethod<&NativeEngine::set_peers>("setPeers"),
                           InstanceMethod<&NativeEngine::has_room>("hasRoom"),
                           InstanceMethod<&NativeEngine::export_peers>("exportPeers"),
                           InstanceMethod<&NativeEngine::remove_peers>("removePeers"),
                           InstanceMethod<&NativeEngine::handshake>("handshake"),
                           InstanceMethod<&NativeEngine::send_control>("sendControl"),
                           InstanceMethod<&NativeEngine::send_frames>("sendFrames"),
                           InstanceMethod<&NativeEngine::install_legs>("installLegs"),
                           InstanceMethod<&NativeEngine::remove_legs>("removeLegs"),
                           InstanceMethod<&NativeEngine::set_limits>("setLimits"),
                           InstanceMethod<&NativeEngine::set_rate>("setRate"),
                           InstanceMethod<&NativeEngine::reset_account>("resetAccount"),
                           InstanceMethod<&NativeEngine::set_host_rate>("setHostRate"),
                           InstanceMethod<&NativeEngine::set_prefix_rate>("setPrefixRate"),
                           InstanceMethod<&NativeEngine::accounts>("accounts"),
                           InstanceMethod<&NativeEngine::peers>("peers"),
                           InstanceMethod<&NativeEngine::legs>("legs"),
                           InstanceMethod<&NativeEngine::mirror_indices>("mirrorIndices"),
                           InstanceMethod<&NativeEngine::mirror_expected>("mirrorExpected"),
                           InstanceMethod<&NativeEngine::share_accounts>("shareAccounts"),
                           InstanceMethod<&NativeEngine::leg_counters>("legCounters"),
                           InstanceMethod<&NativeEngine::set_wireguard_bindings>("setWireguardBindings"),
                           InstanceMethod<&NativeEngine::wireguard_usage>("wireguardUsage"),
                           InstanceMethod<&NativeEngine::wireguard_changes>("wireguardChanges"),
                           InstanceMethod<&NativeEngine::wireguard_routes>("wireguardRoutes"),
                           InstanceMethod<&NativeEngine::adopt_wireguard_routes>("adoptWireguardRoutes"),
                           InstanceMethod<&NativeEngine::add_wireguard_carried>("addWireguardCarried"),
                           InstanceMethod<&NativeEngine::rebind>("rebind"),
                           InstanceMethod<&NativeEngine::open_port>("openPort"),
                           InstanceMethod<&NativeEngine::close_port>("closePort"),
                           InstanceMethod<&NativeEngine::put_addresses>("putAddresses"),
                           InstanceMethod<&NativeEngine::set_interface_down>("setInterfaceDown"),
                           InstanceMethod<&NativeEngine::set_fwmark>("setFwmark"),
                           InstanceMethod<&NativeEngine::set_private_key>("setPrivateKey"),
                           InstanceMethod<&NativeEngine::close>("close"),
                       });
  }

  explicit NativeEngine(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeEngine>(info) {
    const Napi::Env env = info.Env();
    const auto options = info[0].As<Napi::Object>();
    omerta::engine::EngineSettings settings;
    settings.private_key = key_of(options.Get("privateKey"), "privateKey");
    settings.port = static_cast<uint16_t>(number_of(options, "port"));
    settings.bind = options.Get("bind").As<Napi::String>().Utf8Value();
    settings.workers = static_cast<size_t>(number_of(options, "workers"));
    settings.max_legs = static_cast<size_t>(number_of(options, "maxLegs"));
    settings.max_peers = static_cast<size_t>(number_of(options, "maxPeers"));
    settings.wireguard_sessions = static_cast<size_t>(number_of(options, "wireguardSessions"));
    settings.accounts = {static_cast<size_t>(number_of(options, "identities")),
                         static_cast<size_t>(number_of(options, "networks")),
                         static_cast<size_t>(number_of(options, "classes"))};
    settings.control_frames_per_second = static_cast<uint64_t>(number_of(options, "controlFramesPerSecond"));
    settings.stun_per_second = static_cast<uint64_t>(number_of(options, "stunPerSecond"));
    settings.ipsec_mb = options.Get("ipsecMb").ToBoolean();
    const std::string io = options.Get("io").As<Napi::String>().Utf8Value();
    settings.io = io == "auto"       ? omerta::udp::IoWanted::automatic
                  : io == "io_uring" ? omerta::udp::IoWanted::io_uring
                                     : omerta::udp::IoWanted::mmsg;
    settings.aes_256_gcm = options.Get("aes256Gcm").ToBoolean();
    settings.wide_window = options.Get("wideWindow").ToBoolean();
    settings.gro = options.Get("udpGro").ToBoolean();
    settings.gso = options.Get("udpGso").ToBoolean();
    settings.tun_checksum_offload = options.Get("tunChecksumOffload").ToBoolean();
    settings.tun_tcp_offload = options.Get("tunTcpOffload").ToBoolean();
    settings.tun_udp_offload = options.Get("tunUdpOffload").ToBoolean();
    settings.steering = options.Get("steering").ToBoolean();
    settings.port_follows_interface = options.Get("portFollowsInterface").ToBoolean();
    settings.keep_session_on_new_psk = options.Get("keepSessionOnNewPresharedKey").ToBoolean();
    if (options.Get("tun").IsObject()) {
      const auto given = options.Get("tun").As<Napi::Object>();
      omerta::tun::TunSettings tun;
      tun.name = given.Get("name").As<Napi::String>().Utf8Value();
      tun.mtu = static_cast<int>(number_of(given, "mtu"));
      tun.up = given.Get("up").ToBoolean();
      const auto addresses = given.Get("addresses").As<Napi::Array>();
      for (uint32_t i = 0; i < addresses.Length(); i++)
        tun.addresses.push_back(addresses.Get(i).As<Napi::String>().Utf8Value());
      settings.tun = std::move(tun);
    }
    try {
      engine_ = std::make_shared<Engine>(settings);
    } catch (const std::system_error& error) {
      sodium_memzero(settings.private_key.data(), 32);
      throw_system_error(env, error);
    } catch (const std::invalid_argument& error) {
      sodium_memzero(settings.private_key.data(), 32);
      throw_error(env, "BAD_ARGUMENT", error.what());
    } catch (const std::exception& error) {
      sodium_memzero(settings.private_key.data(), 32);
      throw_error(env, "FAILED", error.what());
    }
    sodium_memzero(settings.private_key.data(), 32);
    wake_ = Napi::ThreadSafeFunction::New(env, info[1].As<Napi::Function>(), "omerta events", 0, 1);
    engine_->events().on_wake([engine = engine_.get(), wake = wake_]() mutable {
      // The mark is taken back before JavaScript reads, so that nothing written later is missed.
      wake.NonBlockingCall([engine](Napi::Env, Napi::Function drain) {
        engine->events().draining();
        drain.Call({});
      });
    });
  }

  ~NativeEngine() override { shut_down(); }

 private:
  Engine& open(Napi::Env env) {
    if (closed_) throw_error(env, "CLOSED", "the engine is closed");
    return *engine_;
  }

  Napi::Value port(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), engine_->port()); }

  Napi::Value shared_memory(Napi::Env env, void* data, size_t size) {
    // The buffer keeps the engine's memory alive, however long JavaScript holds it.
    auto* owner = new std::shared_ptr<Engine>(engine_);
    return Napi::ArrayBuffer::New(env, data, size, [owner](Napi::Env, void*) { delete owner; });
  }
  Napi::Value event_memory(const Napi::CallbackInfo& info) {
    return shared_memory(info.Env(), engine_->events().data(), engine_->events().size());
  }
  Napi::Value counter_memory(const Napi::CallbackInfo& info) {
    return shared_memory(info.Env(), engine_->counters(),
                         sizeof(omerta::CounterRow) * (engine_->workers() + 1));
  }

  Napi::Value instrument_memory(const Napi::CallbackInfo& info) {
    return shared_memory(info.Env(), engine_->instruments(),
                         sizeof(omerta::engine::Instruments) * engine_->workers());
  }

  /// Of each worker: receive, its limit, send, its limit, in bytes of kernel memory.
  Napi::Value queues(const Napi::CallbackInfo& info) {
    const std::vector<omerta::udp::Queues> all = open(info.Env()).queues();
    auto out = Napi::Uint32Array::New(info.Env(), 4 * all.size());
    for (size_t i = 0; i < all.size(); i++) {
      out[4 * i] = all[i].receive;
      out[4 * i + 1] = all[i].receive_limit;
      out[4 * i + 2] = all[i].send;
      out[4 * i + 3] = all[i].send_limit;
    }
    return out;
  }

  Napi::Value describe(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Engine& engine = open(env);
    auto out = Napi::Object::New(env);
    out.Set("workers", static_cast<double>(engine.workers()));
    out.Set("indexSlots", static_cast<double>(engine.index_slots()));
    const omerta::crypto::AeadChoice aead = engine.aead();
    const omerta::crypto::SuiteChoice& gcm = aead.of(omerta::crypto::Suite::aes_256_gcm);
    out.Set("aead", aead.name());
    out.Set("ipsecMb", aead.ipsec_mb());
    out.Set("ipsecMbReason", aead.ipsec_mb_reason);
    out.Set("aes256Gcm", gcm.available);
    out.Set("aes256GcmReason", gcm.reason);
    out.Set("io", engine.io_name());
    out.Set("ioRefused", engine.io().refused);
    out.Set("ioReason", engine.io().reason);
    out.Set("ioRemedy", engine.io().remedy);
    auto accelerators = Napi::Array::New(env);
    describe_accelerators(accelerators, engine.accelerators(), kUdpOffloads);
    if (engine.tun() != nullptr) describe_accelerators(accelerators, engine.accelerators(), kTunOffloads);
    out.Set("accelerators", accelerators);
    auto demoted = Napi::Array::New(env);
    for (const Accelerator accelerator : {Accelerator::io_uring, Accelerator::ipsec_mb})
      if (engine.accelerators().state(accelerator) == AcceleratorState::demoted)
        describe_accelerators(demoted, engine.accelerators(), {&accelerator, 1});
    out.Set("demoted", demoted);
    if (const omerta::udp::UdpSocket* socket = engine.socket(); socket != nullptr) {
      out.Set("receiveBufferBytes", socket->receive_buffer_bytes());
      out.Set("sendBufferBytes", socket->send_buffer_bytes());
      out.Set("steering", engine.steering().on);
      out.Set("steeringReason", engine.steering().reason);
    }
    if (const omerta::tun::TunDevice* tun = engine.tun(); tun != nullptr && !engine.interface_gone()) {
      out.Set("tun", tun->name());
    }
    return out;
  }

  /// Packed changes of peers, repeated:
  ///   key 32 | flags u32 | preshared key 32 | ip 16 | port u16 | zero u16 | leg u32 |
  ///   persistent keepalive u32, seconds | count u32 | count × (family u8 | length u8 | remove u8 | zero u8 |
  ///   ip 16)
  /// A flag says that a field is given, see `enum` below; the ip of a family 4 prefix is its first 4 bytes.
  std::vector<omerta::session::PeerSettings> unpack_peers(const Napi::Value& value) {
    enum : uint32_t {
      kRemove = 1,
      kUpdateOnly = 2,
      kPreshared = 4,
      kAddress = 8,
      kLeg = 16,
      kKeepalive = 32,
      kReplace = 64
    };
    const Napi::Env env = value.Env();
    Unpacker batch(env, bytes_of(value, "peers"));
    std::vector<omerta::session::PeerSettings> peers;
    while (!batch.done()) {
      omerta::session::PeerSettings& peer = peers.emplace_back();
      std::memcpy(peer.public_key.data(), batch.take(32).data(), 32);
      const uint32_t flags = batch.take_u32();
      peer.remove = (flags & kRemove) != 0;
      peer.update_only = (flags & kUpdateOnly) != 0;
      peer.replace_allowed_ips = (flags & kReplace) != 0;
      const auto preshared = batch.take(32);
      if ((flags & kPreshared) != 0) std::memcpy(peer.preshared_key.emplace().data(), preshared.data(), 32);
      const auto address = batch.take(20);
      const uint32_t leg = batch.take_u32();
      if ((flags & kAddress) != 0) {
        peer.endpoint.emplace().remote = address_of(address);
      } else if ((flags & kLeg) != 0) {
        peer.endpoint = open(env).endpoint_of_leg(leg);
        if (!peer.endpoint.has_value()) throw_error(env, "BAD_ARGUMENT", "endpoint: no such deliver leg");
      }
      const uint32_t keepalive = batch.take_u32();
      if ((flags & kKeepalive) != 0) peer.persistent_keepalive = keepalive * omerta::kSecond;
      const uint32_t count = batch.take_u32();
      for (uint32_t i = 0; i < count; i++) {
        const auto packed = batch.take(20);
        const auto prefix = omerta::session::Prefix::make(packed[0], packed.data() + 4, packed[1]);
        if (!prefix.has_value()) throw_error(env, "BAD_ARGUMENT", "allowedIps: not a prefix");
        peer.allowed_ips.emplace_back(*prefix, packed[2] != 0);
      }
    }
    return peers;
  }

  /// (packed changes, whether they replace all peers). false: the session table is full.
  Napi::Value set_peers(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    return Napi::Boolean::New(info.Env(), engine.set_peers(unpack_peers(info[0]), info[1].ToBoolean()));
  }

  Napi::Value has_room(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    return Napi::Boolean::New(info.Env(),
                              engine.sessions().has_room(unpack_peers(info[0]), info[1].ToBoolean()));
  }

  /// Peers as they are, in the order they were added, packed:
  ///   key 32 | preshared key 32 | ip 16 | port u16 | zero u16 | leg u32 | handshake u64, ns since 1970 |
  ///   received u64 | sent u64, bytes | persistent keepalive u32, seconds | count u32 | count × prefix as
  ///   above
  Napi::Value export_peers(const Napi::CallbackInfo& info) {
    std::vector<uint8_t> packed;
    const auto put = [&packed](const void* data, size_t size) {
      const auto* bytes = static_cast<const uint8_t*>(data);
      packed.insert(packed.end(), bytes, bytes + size);
    };
    const auto put_number = [&put]<class T>(T number) { put(&number, sizeof number); };
    open(info.Env()).sessions().for_each([&](omerta::session::Peer& peer) {
      const omerta::session::Endpoint endpoint = peer.endpoint();
      put(peer.remote.public_key.data(), 32);
      put(peer.remote.preshared_key.data(), 32);
      put(endpoint.remote.ip, 16);
      put_number(uint32_t{__builtin_bswap16(endpoint.remote.port)});
      put_number(endpoint.receive_leg);
      put_number(peer.last_handshake_wall);
      put_number(peer.rx_bytes.load(std::memory_order_relaxed));
      put_number(peer.tx_bytes.load(std::memory_order_relaxed));
      put_number(static_cast<uint32_t>(peer.persistent_keepalive / omerta::kSecond));
      put_number(static_cast<uint32_t>(peer.allowed_ips.size()));
      omerta::session::AllowedIps::for_each(peer.allowed_ips, [&](const omerta::session::Prefix& prefix) {
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

  void remove_peers(const Napi::CallbackInfo& info) {
    Unpacker keys(info.Env(), bytes_of(info[0], "keys"));
    std::vector<Key32> list;
    while (!keys.done()) std::memcpy(list.emplace_back().data(), keys.take(32).data(), 32);
    open(info.Env()).remove_peers(list);
  }

  Napi::Value handshake(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), open(info.Env()).start_handshake(key_of(info[0], "peer")));
  }

  /// Packed: key 32 | length u32 | payload, repeated. Returns how many had no such peer.
  Napi::Value send_control(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    Unpacker batch(info.Env(), bytes_of(info[0], "batch"));
    uint32_t unknown = 0;
    while (!batch.done()) {
      Key32 peer;
      std::memcpy(peer.data(), batch.take(32).data(), 32);
      const uint32_t length = batch.take_u32();
      if (!engine.send_control(peer, batch.take(length))) unknown++;
    }
    return Napi::Number::New(info.Env(), unknown);
  }

  /// Packed: ip 16 | port u16 | zero u16 | length u32 | frame, repeated.
  void send_frames(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    Unpacker batch(info.Env(), bytes_of(info[0], "batch"));
    while (!batch.done()) {
      const omerta_address to = address_of(batch.take(20));
      const uint32_t length = batch.take_u32();
      engine.send_frame(to, batch.take(length));
    }
  }

  /// Packed struct omerta_leg, 128 bytes each; expires_at counts from now. false: the table is full.
  Napi::Value install_legs(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    Unpacker batch(info.Env(), bytes_of(info[0], "legs"));
    std::vector<omerta_leg> legs;
    while (!batch.done()) legs.push_back(omerta::load<omerta_leg>(batch.take(sizeof(omerta_leg)).data()));
    bool added = false;
    checked(info.Env(), [&] { added = engine.install_legs(std::move(legs)); });
    return Napi::Boolean::New(info.Env(), added);
  }

  /// Packed: public key 32 | ip 16 | port u16 | network u16 | identity u32 | limits u16 | zero u16, repeated.
  void set_wireguard_bindings(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    Unpacker batch(info.Env(), bytes_of(info[0], "bindings"));
    std::vector<omerta_wireguard_binding> bindings;
    while (!batch.done()) {
      omerta_wireguard_binding binding{};
      std::memcpy(binding.public_key, batch.take(32).data(), 32);
      binding.server = address_of(batch.take(18));
      binding.network = omerta::load<uint16_t>(batch.take(2).data());
      binding.identity = batch.take_u32();
      binding.limits = omerta::load<uint16_t>(batch.take(4).data());
      bindings.push_back(binding);
    }
    checked(info.Env(), [&] { engine.set_wireguard_bindings(bindings); });
  }

  /// Sessions, packets, bytes and number of each binding, in the order they were set.
  Napi::Value wireguard_usage(const Napi::CallbackInfo& info) {
    const Engine& engine = open(info.Env());
    const auto usage = engine.wireguard_usage();
    auto out = Napi::Float64Array::New(info.Env(), usage.size() * 4);
    for (size_t i = 0; i < usage.size(); i++) {
      out[i * 4] = usage[i].sessions;
      out[i * 4 + 1] = static_cast<double>(usage[i].packets);
      out[i * 4 + 2] = static_cast<double>(usage[i].bytes);
      out[i * 4 + 3] = static_cast<double>(engine.wireguard_numbers()[i]);
    }
    return out;
  }

  /// Another number after every change of wireguardRoutes().
  Napi::Value wireguard_changes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(open(info.Env()).wireguard_changes()));
  }
  /// Packed struct omerta_leg (omerta/wireguard_relay.h); expires_at as the kernel counts.
  Napi::Value wireguard_routes(const Napi::CallbackInfo& info) {
    const std::vector<omerta_leg> routes = open(info.Env()).wireguard_routes();
    return Napi::Buffer<uint8_t>::Copy(info.Env(), reinterpret_cast<const uint8_t*>(routes.data()),
                                       routes.size() * sizeof(omerta_leg));
  }
  void adopt_wireguard_routes(const Napi::CallbackInfo& info) {
    open(info.Env()).adopt_wireguard_routes(routes_of(info));
  }
  void add_wireguard_carried(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    checked(info.Env(), [&] { engine.add_wireguard_carried(routes_of(info)); });
  }
  static std::vector<omerta_leg> routes_of(const Napi::CallbackInfo& info) {
    Unpacker batch(info.Env(), bytes_of(info[0], "routes"));
    std::vector<omerta_leg> routes;
    while (!batch.done()) routes.push_back(omerta::load<omerta_leg>(batch.take(sizeof(omerta_leg)).data()));
    return routes;
  }

  /// Tells an index that is out of its range as a bad argument.
  template <class Call>
  static void checked(Napi::Env env, const Call& call) {
    try {
      call();
    } catch (const std::out_of_range& error) {
      throw_error(env, "BAD_ARGUMENT", error.what());
    }
  }
  template <class T>
  static T packed(const Napi::Value& value, const char* field) {
    return omerta::load<T>(Unpacker(value.Env(), bytes_of(value, field)).take(sizeof(T)).data());
  }
  static size_t index_of(const Napi::Value& value) {
    return static_cast<size_t>(value.As<Napi::Number>().Int64Value());
  }
  static omerta::relay::AccountKind kind_of(const Napi::Value& network) {
    return network.ToBoolean() ? omerta::relay::AccountKind::network : omerta::relay::AccountKind::identity;
  }

  /// index, struct omerta_limits
  void set_limits(const Napi::CallbackInfo& info) {
    auto& accounts = open(info.Env()).legs().accounts();
    const auto limits = packed<omerta_limits>(info[1], "limits");
    checked(info.Env(), [&] { accounts.set_limits(index_of(info[0]), limits); });
  }

  /// whether a network's, index, struct omerta_rate
  void set_rate(const Napi::CallbackInfo& info) {
    auto& accounts = open(info.Env()).legs().accounts();
    const auto rate = packed<omerta_rate>(info[2], "rate");
    checked(info.Env(), [&] { accounts.set_rate(kind_of(info[0]), index_of(info[1]), rate); });
  }

  void reset_account(const Napi::CallbackInfo& info) {
    auto& accounts = open(info.Env()).legs().accounts();
    checked(info.Env(), [&] { accounts.reset(kind_of(info[0]), index_of(info[1])); });
  }

  void set_host_rate(const Napi::CallbackInfo& info) {
    open(info.Env()).legs().accounts().set_host_rate(packed<omerta_rate>(info[0], "rate"));
  }

  /// struct omerta_rate, leading bits of IPv4 and of IPv6
  void set_prefix_rate(const Napi::CallbackInfo& info) {
    auto& accounts = open(info.Env()).legs().accounts();
    const auto rate = packed<omerta_rate>(info[0], "rate");
    const omerta::relay::Accounts::PrefixBits bits = {info[1].As<Napi::Number>().Uint32Value(),
                                                      info[2].As<Napi::Number>().Uint32Value()};
    checked(info.Env(), [&] { accounts.set_prefix_rate(rate, bits); });
  }

  Napi::Value accounts(const Napi::CallbackInfo& info) {
    const auto all = open(info.Env()).accounts(kind_of(info[0]));
    auto out = Napi::Float64Array::New(info.Env(), all.size() * 3);
    for (size_t i = 0; i < all.size(); i++) {
      out[i * 3] = static_cast<double>(all[i].packets);
      out[i * 3 + 1] = static_cast<double>(all[i].bytes);
      out[i * 3 + 2] = static_cast<double>(all[i].refused);
    }
    return out;
  }

  void remove_legs(const Napi::CallbackInfo& info) {
    const auto ids = info[0].As<Napi::Uint32Array>();
    open(info.Env()).remove_legs(std::span<const uint32_t>(ids.Data(), ids.ElementLength()));
  }

  Napi::Value peers(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    auto list = Napi::Array::New(env);
    const omerta::Nanoseconds now = omerta::boot_clock();
    const auto age = [env, now](omerta::Nanoseconds then) -> Napi::Value {
      if (then == 0) return env.Undefined();
      return Napi::Number::New(env, static_cast<double>(now > then ? now - then : 0) / 1e6);
    };
    uint32_t count = 0;
    open(env).sessions().for_each([&](omerta::session::Peer& peer) {
      auto out = Napi::Object::New(env);
      out.Set("publicKey", Napi::Buffer<uint8_t>::Copy(env, peer.remote.public_key.data(), 32));
      const omerta::session::Endpoint endpoint = peer.endpoint();
      if (endpoint.known()) {
        uint8_t address[18];
        std::memcpy(address, endpoint.remote.ip, 16);
        omerta::store(address + 16, __builtin_bswap16(endpoint.remote.port));
        out.Set("address", Napi::Buffer<uint8_t>::Copy(env, address, sizeof address));
        out.Set("leg", endpoint.receive_leg);
      }
      out.Set("handshakeAgeMs", age(peer.last_handshake.load(std::memory_order_relaxed)));
      out.Set("lastReceivedMs", age(peer.last_received.load(std::memory_order_relaxed)));
      if (omerta::session::Keypair* first = peer.current.load(std::memory_order_relaxed); first != nullptr) {
        const omerta::session::Keypair* second = first->negotiation.keypair.get();
        out.Set("suite", omerta::crypto::name_of(first->sending().suite()));
        out.Set("replayWindow", static_cast<double>((second != nullptr ? second : first)->window()));
      }
      out.Set("rxBytes", static_cast<double>(peer.rx_bytes.load(std::memory_order_relaxed)));
      out.Set("txBytes", static_cast<double>(peer.tx_bytes.load(std::memory_order_relaxed)));
      list.Set(count++, out);
    });
    return list;
  }

  /// Five numbers for each id: 1 if there is such a leg, packets and bytes accepted, packets and bytes sent.
  Napi::Value leg_counters(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    const auto ids = info[0].As<Napi::Uint32Array>();
    auto out = Napi::Float64Array::New(info.Env(), ids.ElementLength() * 5);
    for (size_t i = 0; i < ids.ElementLength(); i++) {
      omerta_leg leg;
      if (!engine.legs().find(ids[i], leg)) continue;
      const auto sent = engine.sent(ids[i]).value_or(omerta::relay::SentCounters::Sent{0, 0});
      const uint64_t values[5] = {1, leg.packets, leg.bytes, sent.packets, sent.bytes};
      for (size_t j = 0; j < 5; j++) out[i * 5 + j] = static_cast<double>(values[j]);
    }
    return out;
  }

  Napi::Value legs(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    auto list = Napi::Array::New(env);
    const omerta::Nanoseconds now = omerta::boot_clock();
    uint32_t count = 0;
    Engine& engine = open(env);
    engine.legs().for_each([&](const omerta_leg& leg) {
      auto out = Napi::Object::New(env);
      out.Set("id", leg.leg_id);
      out.Set("packets", static_cast<double>(leg.packets));
      out.Set("bytes", static_cast<double>(leg.bytes));
      out.Set("refused", engine.refused(leg.leg_id));
      if (leg.last_used != 0)
        out.Set("idleMs", static_cast<double>(now > leg.last_used ? now - leg.last_used : 0) / 1e6);
      list.Set(count++, out);
    });
    return list;
  }

  /// The file descriptor stays the caller's.
  void mirror_indices(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    const int fd = info[0].As<Napi::Number>().Int32Value();
    system_call(info.Env(), [&engine, fd] { engine.mirror_indices(fd); });
  }

  void mirror_expected(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    const int fd = info[0].As<Napi::Number>().Int32Value();
    system_call(info.Env(), [&engine, fd] { engine.mirror_expected(fd); });
  }

  /// File descriptors, which stay the caller's: policy, limits, identities, networks, host, prefixes.
  void share_accounts(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    const auto fds = info[0].As<Napi::Int32Array>();
    if (fds.ElementLength() != 6) throw_error(info.Env(), "BAD_ARGUMENT", "shareAccounts: expected 6 files");
    system_call(info.Env(), [&] { engine.share_accounts({fds[0], fds[1], fds[2], fds[3], fds[4], fds[5]}); });
  }

  void rebind(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    const auto port = static_cast<uint16_t>(info[0].As<Napi::Number>().Uint32Value());
    system_call(info.Env(), [&engine, port] { engine.rebind(port); });
  }

  void set_fwmark(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    const uint32_t fwmark = info[0].As<Napi::Number>().Uint32Value();
    system_call(info.Env(), [&engine, fwmark] { engine.set_fwmark(fwmark); });
  }

  void open_port(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    system_call(info.Env(), [&engine] { engine.open_port(); });
  }

  void close_port(const Napi::CallbackInfo& info) { open(info.Env()).close_port(); }

  /// Those the interface cannot have.
  Napi::Value put_addresses(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    auto refused = Napi::Array::New(info.Env());
    system_call(info.Env(), [&] {
      for (const std::string& address : engine.put_addresses()) refused.Set(refused.Length(), address);
    });
    return refused;
  }

  void set_interface_down(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    system_call(info.Env(), [&engine] { engine.set_interface_down(); });
  }

  void set_private_key(const Napi::CallbackInfo& info) {
    Engine& engine = open(info.Env());
    if (!info[0].IsTypedArray()) return engine.set_private_key(std::nullopt);
    Key32 key = key_of(info[0], "privateKey");
    engine.set_private_key(key);
    sodium_memzero(key.data(), key.size());
  }

  void close(const Napi::CallbackInfo&) { shut_down(); }

  void shut_down() {
    if (closed_ || !engine_) return;
    closed_ = true;
    engine_->close();  // after this no worker calls wake
    wake_.Release();
  }

  std::shared_ptr<Engine> engine_;
  Napi::ThreadSafeFunction wake_;
  bool closed_ = false;
};

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  exports.Set("testTunOffloads", Napi::Function::New(env, test_tun_offloads, "testTunOffloads"));
  exports.Set("NativeEngine", NativeEngine::define(env));
  auto names = Napi::Array::New(env);
  for (uint32_t i = 0; i < omerta::kCounterCount; i++)
    names.Set(i, Napi::String::New(env, std::string(omerta::kCounterNames[i])));
  exports.Set("counterNames", names);
  using omerta::engine::Instruments;
  exports.Set("instrumentRowBytes", static_cast<double>(sizeof(Instruments)));
  exports.Set("latencyBuckets", static_cast<double>(Instruments::kBuckets));
  exports.Set("latencyFirstBits", static_cast<double>(Instruments::kFirstBucketBits));
  exports.Set("counterRowBytes", static_cast<double>(sizeof(omerta::CounterRow)));
  return exports;
}

}  // namespace

NODE_API_MODULE(omerta, initialise)
