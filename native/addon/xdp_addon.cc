// SPDX-License-Identifier: Apache-2.0
// N-API surface of the kernel path (native/xdp). A module of its own, because it needs libbpf: where
// that is not installed, the native engine loads all the same. ts/engine/xdp/xdp-addon.ts is its only caller.
#include <napi.h>

#include <cstring>

#include <omerta/xdp_maps.h>
#include "common/bytes.h"
#include "common/clock.h"
#include "xdp/interface_facts.h"
#include "xdp/loopback_forwarding.h"
#include "xdp/self_test.h"
#include "xdp/xdp_relay.h"

namespace {

using namespace omerta::xdp;

[[noreturn]] void throw_error(Napi::Env env, const char* code, const std::string& message,
                              const std::string& remedy = {}) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  error.Set("remedy", Napi::String::New(env, remedy));
  throw error;
}

/// Runs what may throw XdpError, with the failure told to JavaScript: code, message, remedy.
template <class Call>
auto told(Napi::Env env, const Call& call) {
  try {
    return call();
  } catch (const XdpError& error) {
    throw_error(env, error.name(), error.what(), error.remedy());
  }
}

double number_of(const Napi::Object& object, const char* field) {
  return object.Get(field).As<Napi::Number>().DoubleValue();
}

constexpr size_t kDropReasons = OMERTA_DROP_REASON_COUNT, kOthers = OMERTA_XDP_COUNTER_COUNT;

class Relay : public Napi::ObjectWrap<Relay> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "XdpRelay",
                       {
                           InstanceMethod<&Relay::install_legs>("installLegs"),
                           InstanceMethod<&Relay::remove_legs>("removeLegs"),
                           InstanceMethod<&Relay::activate>("activate"),
                           InstanceMethod<&Relay::check>("check"),
                           InstanceMethod<&Relay::status>("status"),
                           InstanceMethod<&Relay::legs>("legs"),
                           InstanceMethod<&Relay::leg_counters>("legCounters"),
                           InstanceMethod<&Relay::counters>("counters"),
                           InstanceMethod<&Relay::indices>("indices"),
                           InstanceMethod<&Relay::expected>("expected"),
                           InstanceMethod<&Relay::set_indices_known>("setIndicesKnown"),
                           InstanceMethod<&Relay::routes>("routes"),
                           InstanceMethod<&Relay::replace_routes>("replaceRoutes"),
                           InstanceMethod<&Relay::accounts>("accounts"),
                           InstanceMethod<&Relay::close>("close"),
                       });
  }

  explicit Relay(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Relay>(info) {
    const auto options = info[0].As<Napi::Object>();
    RelaySettings settings;
    settings.port = static_cast<uint16_t>(number_of(options, "port"));
    settings.bind = options.Get("bind").As<Napi::String>().Utf8Value();
    settings.mode = options.Get("generic").ToBoolean() ? Mode::generic : Mode::native;
    settings.max_legs = static_cast<size_t>(number_of(options, "maxLegs"));
    settings.max_routes = static_cast<size_t>(number_of(options, "maxRoutes"));
    settings.index_slots = static_cast<size_t>(number_of(options, "indexSlots"));
    settings.accounts = {static_cast<size_t>(number_of(options, "identities")),
                         static_cast<size_t>(number_of(options, "networks")),
                         static_cast<size_t>(number_of(options, "classes"))};
    const auto interfaces = options.Get("interfaces").As<Napi::Array>();
    for (uint32_t i = 0; i < interfaces.Length(); i++)
      settings.interfaces.push_back(interfaces.Get(i).As<Napi::String>().Utf8Value());
    relay_ = told(info.Env(), [&] { return std::make_unique<XdpRelay>(settings); });
  }

 private:
  XdpRelay& open(Napi::Env env) {
    if (!relay_) throw_error(env, "CLOSED", "the kernel path is closed");
    return *relay_;
  }

  static std::vector<omerta_leg> legs_of(const Napi::CallbackInfo& info) {
    const auto bytes = info[0].As<Napi::Uint8Array>();
    if (bytes.ByteLength() % sizeof(omerta_leg) != 0)
      throw_error(info.Env(), "BAD_ARGUMENT", "packed batch: truncated");
    std::vector<omerta_leg> legs(bytes.ByteLength() / sizeof(omerta_leg));
    if (!legs.empty()) std::memcpy(legs.data(), bytes.Data(), bytes.ByteLength());
    return legs;
  }

  /// Packed struct omerta_leg, 128 bytes each; expires_at counts from now.
  void install_legs(const Napi::CallbackInfo& info) { open(info.Env()).install_legs(legs_of(info)); }

  void remove_legs(const Napi::CallbackInfo& info) {
    const auto ids = info[0].As<Napi::Uint32Array>();
    open(info.Env()).remove_legs(std::span<const uint32_t>(ids.Data(), ids.ElementLength()));
  }

  void activate(const Napi::CallbackInfo& info) {
    told(info.Env(), [&] { open(info.Env()).activate(); });
  }
  void check(const Napi::CallbackInfo& info) {
    told(info.Env(), [&] { open(info.Env()).check(); });
  }

  Napi::Value status(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    XdpRelay& relay = open(env);
    auto out = Napi::Object::New(env);
    const std::vector<Attachment::Status> list = relay.interfaces();
    auto interfaces = Napi::Array::New(env);
    for (uint32_t i = 0; i < list.size(); i++) {
      auto each = Napi::Object::New(env);
      each.Set("name", list[i].interface);
      each.Set("attached", list[i].attached);
      each.Set("adopted", list[i].adopted);
      each.Set("times", list[i].times);
      each.Set("reason", list[i].reason);
      each.Set("remedy", list[i].remedy);
      each.Set("code", list[i].code);
      interfaces.Set(i, each);
    }
    out.Set("interfaces", interfaces);
    out.Set("programId", relay.program().id());
    out.Set("verifiedInstructions", relay.program().verified_instructions());
    out.Set("adoptedLegs", static_cast<double>(relay.adopted_legs()));
    out.Set("removedLegs", static_cast<double>(relay.removed_legs()));
    out.Set("missingLegs", static_cast<double>(relay.missing_legs()));
    out.Set("forwardingEnabled", relay.forwarding_enabled());
    out.Set("selfTestPackets", relay.self_test_packets());
    out.Set("pins", relay.pins().folder());
    return out;
  }

  /// Packed, 40 bytes each: id u32 | identity u32 | network u16 | zero u16 | zero u32 | packets u64 |
  /// bytes u64 | ns since last used u64 (all ones: never)
  Napi::Value legs(const Napi::CallbackInfo& info) {
    std::vector<uint8_t> packed;
    const omerta::Nanoseconds now = omerta::boot_clock();
    told(info.Env(), [&] {
      open(info.Env()).legs().for_each([&](const omerta_leg& leg) {
        uint8_t row[40] = {};
        const uint64_t idle = leg.last_used == 0 ? UINT64_MAX : now > leg.last_used ? now - leg.last_used : 0;
        omerta::store(row, leg.leg_id);
        omerta::store(row + 4, leg.identity);
        omerta::store(row + 8, leg.network);
        omerta::store(row + 16, leg.packets);
        omerta::store(row + 24, leg.bytes);
        omerta::store(row + 32, idle);
        packed.insert(packed.end(), row, row + sizeof row);
      });
    });
    return Napi::Buffer<uint8_t>::Copy(info.Env(), packed.data(), packed.size());
  }

  /// For each id: packets, bytes; 0 for a leg that is not there.
  Napi::Value leg_counters(const Napi::CallbackInfo& info) {
    const auto ids = info[0].As<Napi::Uint32Array>();
    const LegMap& legs = open(info.Env()).legs();
    auto out = Napi::Float64Array::New(info.Env(), ids.ElementLength() * 2);
    for (size_t i = 0; i < ids.ElementLength(); i++) {
      omerta_leg leg;
      if (!legs.find(ids[i], leg)) continue;
      out[2 * i] = static_cast<double>(leg.packets);
      out[2 * i + 1] = static_cast<double>(leg.bytes);
    }
    return out;
  }

  /// In the order of counterNames.
  Napi::Value counters(const Napi::CallbackInfo& info) {
    const omerta_xdp_counters totals =
        told(info.Env(), [&] { return open(info.Env()).program().counters(); });
    auto out = Napi::Float64Array::New(info.Env(), kDropReasons + kOthers);
    for (size_t i = 0; i < kDropReasons; i++) out[i] = static_cast<double>(totals.drops[i]);
    for (size_t i = 0; i < kOthers; i++) out[kDropReasons + i] = static_cast<double>(totals.others[i]);
    return out;
  }

  /// File descriptor of the memory the session engine mirrors its receiver indices into.
  Napi::Value indices(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), open(info.Env()).program().indices_fd());
  }
  /// File descriptor of the memory the socket engine mirrors expected indices into.
  Napi::Value expected(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), open(info.Env()).program().expected_fd());
  }

  /// Both mirrors hold every index the socket engine knows: a datagram with another is dropped from now on.
  void set_indices_known(const Napi::CallbackInfo& info) {
    open(info.Env()).program().settings().indices_known = 1;
  }

  // Routes are packed struct omerta_leg; expires_at as the kernel counts.

  Napi::Value routes(const Napi::CallbackInfo& info) {
    return packed(info.Env(), open(info.Env()).routes().all());
  }
  /// Gives the kernel these routes and no others; those that ended, as they had counted.
  Napi::Value replace_routes(const Napi::CallbackInfo& info) {
    return packed(info.Env(), open(info.Env()).routes().replace(legs_of(info)));
  }
  static Napi::Value packed(Napi::Env env, const std::vector<omerta_leg>& legs) {
    return Napi::Buffer<uint8_t>::Copy(env, reinterpret_cast<const uint8_t*>(legs.data()),
                                       legs.size() * sizeof(omerta_leg));
  }

  /// File descriptors of the memory the socket engine's accounts are shared in.
  Napi::Value accounts(const Napi::CallbackInfo& info) {
    const omerta::relay::AccountFiles files = open(info.Env()).program().account_files();
    auto out = Napi::Int32Array::New(info.Env(), 6);
    const int list[] = {files.policy,   files.limits, files.identities,
                        files.networks, files.host,   files.prefixes};
    for (size_t i = 0; i < 6; i++) out[i] = list[i];
    return out;
  }

  void close(const Napi::CallbackInfo& info) {
    if (!relay_) return;
    told(info.Env(), [&] { relay_->close(info[0].ToBoolean()); });
    relay_.reset();
  }

  std::unique_ptr<XdpRelay> relay_;
};

Napi::Value describe(Napi::Env env, const InterfaceFacts& facts) {
  auto out = Napi::Object::New(env);
  out.Set("name", facts.name);
  out.Set("mtu", facts.mtu);
  out.Set("up", facts.up);
  out.Set("ethernet", facts.ethernet);
  out.Set("driver", facts.driver);
  out.Set("receiveQueues", facts.receive_queues);
  out.Set("transmitQueues", facts.transmit_queues);
  out.Set("receiveRing", facts.receive_ring);
  out.Set("transmitRing", facts.transmit_ring);
  if (facts.xdp_features.has_value()) {
    out.Set("nativeXdp", (*facts.xdp_features & kXdpBasic) != 0);
    out.Set("redirectXdp",
            (*facts.xdp_features & (kXdpRedirect | kXdpTransmit)) == (kXdpRedirect | kXdpTransmit));
  }
  out.Set("programId", facts.program_id);
  out.Set("generic", facts.generic);
  return out;
}

Napi::Value list_interfaces(const Napi::CallbackInfo& info) {
  auto list = Napi::Array::New(info.Env());
  uint32_t count = 0;
  for (const std::string& name : interface_names())
    if (const auto facts = interface_facts(name)) list.Set(count++, describe(info.Env(), *facts));
  return list;
}

Napi::Value run_self_test(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), told(info.Env(), [] { return self_test(); }));
}

Napi::Value is_forwarding_enabled(const Napi::CallbackInfo& info) {
  const LoopbackForwarding on = loopback_forwarding();
  return Napi::Boolean::New(info.Env(), on.ipv4 && on.ipv6);
}

uint16_t port_of(const Napi::CallbackInfo& info) {
  return static_cast<uint16_t>(info[0].As<Napi::Number>().Uint32Value());
}

Napi::Value unload_relay(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), told(info.Env(), [&] { return unload(port_of(info)); }));
}

Napi::Value is_relay_loaded(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), told(info.Env(), [&] { return is_loaded(port_of(info)); }));
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  static const char* const kNames[] = {
#define OMERTA_X(upper, lower) "drop_" #lower,
      OMERTA_DROP_REASONS(OMERTA_X)
#undef OMERTA_X
#define OMERTA_X(upper, lower) #lower,
          OMERTA_XDP_COUNTERS(OMERTA_X)
#undef OMERTA_X
  };
  auto names = Napi::Array::New(env);
  for (uint32_t i = 0; i < std::size(kNames); i++) names.Set(i, Napi::String::New(env, kNames[i]));
  exports.Set("counterNames", names);
  exports.Set("XdpRelay", Relay::define(env));
  exports.Set("interfaces", Napi::Function::New(env, list_interfaces));
  exports.Set("selfTest", Napi::Function::New(env, run_self_test));
  exports.Set("forwardingEnabled", Napi::Function::New(env, is_forwarding_enabled));
  exports.Set("unload", Napi::Function::New(env, unload_relay));
  exports.Set("isLoaded", Napi::Function::New(env, is_relay_loaded));
  return exports;
}

}  // namespace

NODE_API_MODULE(omerta_xdp, initialise)
