// SPDX-License-Identifier: Apache-2.0
#include "addon/xdp_relay_handle.h"

#include <omerta/xdp_maps.h>
#include "addon/arguments.h"
#include "addon/xdp_errors.h"
#include "common/clock.h"
#include "xdp/map_facts.h"

namespace omerta::addon {
namespace {

constexpr size_t kDropReasons = OMERTA_DROP_REASON_COUNT, kOthers = OMERTA_XDP_COUNTER_COUNT;

}  // namespace

Napi::Function XdpRelayHandle::define(Napi::Env env) {
  return DefineClass(env, "XdpRelay",
                     {
                         InstanceMethod<&XdpRelayHandle::install_legs>("installLegs"),
                         InstanceMethod<&XdpRelayHandle::remove_legs>("removeLegs"),
                         InstanceMethod<&XdpRelayHandle::legs>("legs"),
                         InstanceMethod<&XdpRelayHandle::leg_counters>("legCounters"),
                         InstanceMethod<&XdpRelayHandle::routes>("routes"),
                         InstanceMethod<&XdpRelayHandle::replace_routes>("replaceRoutes"),
                         InstanceMethod<&XdpRelayHandle::activate>("activate"),
                         InstanceMethod<&XdpRelayHandle::check>("check"),
                         InstanceMethod<&XdpRelayHandle::status>("status"),
                         InstanceMethod<&XdpRelayHandle::counters>("counters"),
                         InstanceMethod<&XdpRelayHandle::indices>("indices"),
                         InstanceMethod<&XdpRelayHandle::expected>("expected"),
                         InstanceMethod<&XdpRelayHandle::door>("door"),
                         InstanceMethod<&XdpRelayHandle::windows>("windows"),
                         InstanceMethod<&XdpRelayHandle::set_indices_known>("setIndicesKnown"),
                         InstanceMethod<&XdpRelayHandle::accounts>("accounts"),
                         InstanceMethod<&XdpRelayHandle::close>("close"),
                     });
}

XdpRelayHandle::XdpRelayHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<XdpRelayHandle>(info) {
  const auto options = info[0].As<Napi::Object>();
  xdp::RelaySettings settings;
  settings.port = static_cast<uint16_t>(number_of(options, "port"));
  settings.bind = text_of(options, "bind");
  settings.mode = flag_of(options, "generic") ? xdp::Mode::generic : xdp::Mode::native;
  settings.max_legs = size_of(options, "maxLegs");
  settings.max_routes = size_of(options, "maxRoutes");
  settings.index_slots = size_of(options, "indexSlots");
  settings.accounts = {size_of(options, "identities"), size_of(options, "networks"),
                       size_of(options, "classes")};
  settings.interfaces = texts_of(options, "interfaces");
  relay_ = told(info.Env(), [&] { return std::make_unique<xdp::XdpRelay>(settings); });
}

xdp::XdpRelay& XdpRelayHandle::open(Napi::Env env) {
  if (!relay_) throw_error(env, "CLOSED", "the kernel path is closed");
  return *relay_;
}

void XdpRelayHandle::close(const Napi::CallbackInfo& info) {
  if (!relay_) return;
  told(info.Env(), [&] { relay_->close(info[0].ToBoolean()); });
  relay_.reset();
}

// --- legs, routes ---------------------------------------------------------------------------------

/// Packed struct omerta_leg; expires_at counts from now.
void XdpRelayHandle::install_legs(const Napi::CallbackInfo& info) {
  open(info.Env()).install_legs(legs_of(info[0], "legs"));
}

void XdpRelayHandle::remove_legs(const Napi::CallbackInfo& info) {
  open(info.Env()).remove_legs(ids_of(info[0]));
}

/// Packed, 40 bytes each: id u32 | identity u32 | network u16 | zero u16 | zero u32 | packets u64 |
/// bytes u64 | ns since last used u64 (all ones: never)
Napi::Value XdpRelayHandle::legs(const Napi::CallbackInfo& info) {
  std::vector<uint8_t> packed;
  const Nanoseconds now = boot_clock();
  told(info.Env(), [&] {
    open(info.Env()).legs().for_each([&](const omerta_leg& leg) {
      uint8_t row[40] = {};
      const uint64_t idle = leg.last_used == 0 ? UINT64_MAX : now > leg.last_used ? now - leg.last_used : 0;
      store(row, leg.leg_id);
      store(row + 4, leg.identity);
      store(row + 8, leg.network);
      store(row + 16, leg.packets);
      store(row + 24, leg.bytes);
      store(row + 32, idle);
      packed.insert(packed.end(), row, row + sizeof row);
    });
  });
  return Napi::Buffer<uint8_t>::Copy(info.Env(), packed.data(), packed.size());
}

/// For each id: packets, bytes; 0 for a leg that is not there.
Napi::Value XdpRelayHandle::leg_counters(const Napi::CallbackInfo& info) {
  const std::span<const uint32_t> ids = ids_of(info[0]);
  const xdp::LegMap& legs = open(info.Env()).legs();
  auto out = Napi::Float64Array::New(info.Env(), ids.size() * 2);
  for (size_t i = 0; i < ids.size(); i++) {
    omerta_leg leg;
    if (!legs.find(ids[i], leg)) continue;
    out[2 * i] = static_cast<double>(leg.packets);
    out[2 * i + 1] = static_cast<double>(leg.bytes);
  }
  return out;
}

/// Packed struct omerta_leg; expires_at as the kernel counts. So are those of replace_routes().
Napi::Value XdpRelayHandle::routes(const Napi::CallbackInfo& info) {
  return packed_legs(info.Env(), open(info.Env()).routes().all());
}

/// Gives the kernel these routes and no others; those that ended, as they had counted.
Napi::Value XdpRelayHandle::replace_routes(const Napi::CallbackInfo& info) {
  return packed_legs(info.Env(), open(info.Env()).routes().replace(legs_of(info[0], "routes")));
}

// --- state ----------------------------------------------------------------------------------------

void XdpRelayHandle::activate(const Napi::CallbackInfo& info) {
  told(info.Env(), [&] { open(info.Env()).activate(); });
}

void XdpRelayHandle::check(const Napi::CallbackInfo& info) {
  told(info.Env(), [&] { open(info.Env()).check(); });
}

/// XdpStatus of ts/engine/xdp/xdp-addon.ts.
Napi::Value XdpRelayHandle::status(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  xdp::XdpRelay& relay = open(env);
  auto out = Napi::Object::New(env);
  auto interfaces = Napi::Array::New(env);
  for (const xdp::Attachment::Status& interface : relay.interfaces()) {
    auto each = Napi::Object::New(env);
    each.Set("name", interface.interface);
    each.Set("attached", interface.attached);
    each.Set("adopted", interface.adopted);
    each.Set("times", interface.times);
    each.Set("driver", interface.driver);
    each.Set("takesRedirected", interface.takes_redirected);
    each.Set("code", interface.code);
    each.Set("detail", interface.detail);
    each.Set("number", static_cast<double>(interface.number));
    interfaces.Set(interfaces.Length(), each);
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

/// In the order of xdp_counter_names().
Napi::Value XdpRelayHandle::counters(const Napi::CallbackInfo& info) {
  const omerta_xdp_counters totals = told(info.Env(), [&] { return open(info.Env()).program().counters(); });
  auto out = Napi::Float64Array::New(info.Env(), kDropReasons + kOthers);
  for (size_t i = 0; i < kDropReasons; i++) out[i] = static_cast<double>(totals.drops[i]);
  for (size_t i = 0; i < kOthers; i++) out[kDropReasons + i] = static_cast<double>(totals.others[i]);
  return out;
}

Napi::Value xdp_counter_names(Napi::Env env) {
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
  return names;
}

// --- memory shared with the socket engine -----------------------------------------------------------

/// File descriptor of the memory the session engine mirrors its receiver indices into.
Napi::Value XdpRelayHandle::indices(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), open(info.Env()).program().indices_fd());
}

/// File descriptor of the memory the socket engine mirrors expected indices into.
Napi::Value XdpRelayHandle::expected(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), open(info.Env()).program().expected_fd());
}

/// File descriptor of the memory the socket engine tells the door in.
Napi::Value XdpRelayHandle::door(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), open(info.Env()).program().door_fd());
}

/// File descriptors of the legs and of what they let through, and how many there are of each.
Napi::Value XdpRelayHandle::windows(const Napi::CallbackInfo& info) {
  const xdp::RelayProgram& program = open(info.Env()).program();
  auto out = Napi::Int32Array::New(info.Env(), 3);
  out[0] = program.legs_fd();
  out[1] = program.windows_fd();
  out[2] = static_cast<int32_t>(xdp::capacity_of(program.legs_fd()));
  return out;
}

/// Both mirrors hold every index the socket engine knows: a datagram with another is dropped from now on.
void XdpRelayHandle::set_indices_known(const Napi::CallbackInfo& info) {
  open(info.Env()).program().settings().indices_known = 1;
}

/// File descriptors of the memory the socket engine's accounts are shared in.
Napi::Value XdpRelayHandle::accounts(const Napi::CallbackInfo& info) {
  const relay::AccountFiles files = open(info.Env()).program().account_files();
  const int list[] = {files.policy,   files.limits, files.identities,
                      files.networks, files.host,   files.prefixes};
  auto out = Napi::Int32Array::New(info.Env(), std::size(list));
  for (size_t i = 0; i < std::size(list); i++) out[i] = list[i];
  return out;
}

}  // namespace omerta::addon
