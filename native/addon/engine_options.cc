// SPDX-License-Identifier: Apache-2.0
#include "addon/engine_options.h"

#include "addon/arguments.h"
#include "addon/guest_socket_handle.h"
#include "exit/helper_network.h"

namespace omerta::addon {
namespace {

udp::IoWanted io_of(const std::string& name) {
  if (name == "auto") return udp::IoWanted::automatic;
  return name == "io_uring" ? udp::IoWanted::io_uring : udp::IoWanted::mmsg;
}

tun::TunSettings tun_of(const Napi::Object& options) {
  tun::TunSettings tun;
  tun.name = text_of(options, "name");
  tun.mtu = static_cast<int>(number_of(options, "mtu"));
  tun.up = flag_of(options, "up");
  tun.addresses = texts_of(options, "addresses");
  if (options.Get("channel").IsNumber())
    tun.network = std::make_shared<exit::HelperNetwork>(static_cast<int>(number_of(options, "channel")));
  return tun;
}

engine::StackSettings stack_of(const Napi::Object& options) {
  return {texts_of(options, "addresses"), size_of(options, "mtu")};
}

engine::GuestSettings guest_of(const Napi::Object& options) {
  engine::GuestSettings guest;
  guest.socket =
      Napi::ObjectWrap<GuestSocketHandle>::Unwrap(options.Get("socket").As<Napi::Object>())->socket();
  guest.addresses = texts_of(options, "addresses");
  guest.mtu = size_of(options, "mtu");
  const Bytes mac = bytes_of(options.Get("mac"), "mac");
  if (mac.size() != guest.mac.size()) throw_error(options.Env(), "BAD_ARGUMENT", "mac: 6 bytes are expected");
  std::copy(mac.begin(), mac.end(), guest.mac.begin());
  return guest;
}

}  // namespace

void read_options(const Napi::Object& options, engine::EngineSettings& settings) {
  settings.private_key = key_of(options.Get("privateKey"), "privateKey");
  settings.port = static_cast<uint16_t>(number_of(options, "port"));
  settings.bind = text_of(options, "bind");
  settings.workers = size_of(options, "workers");
  settings.max_legs = size_of(options, "maxLegs");
  settings.max_peers = size_of(options, "maxPeers");
  settings.wireguard_sessions = size_of(options, "wireguardSessions");
  settings.accounts = {size_of(options, "identities"), size_of(options, "networks"),
                       size_of(options, "classes")};
  settings.control_frames_per_second = size_of(options, "controlFramesPerSecond");
  settings.stun_per_second = size_of(options, "stunPerSecond");
  settings.ipsec_mb = flag_of(options, "ipsecMb");
  settings.io = io_of(text_of(options, "io"));
  settings.aes_256_gcm = flag_of(options, "aes256Gcm");
  settings.wide_window = flag_of(options, "wideWindow");
  settings.gro = flag_of(options, "udpGro");
  settings.gso = flag_of(options, "udpGso");
  settings.tun_checksum_offload = flag_of(options, "tunChecksumOffload");
  settings.tun_tcp_offload = flag_of(options, "tunTcpOffload");
  settings.tun_udp_offload = flag_of(options, "tunUdpOffload");
  settings.steering = flag_of(options, "steering");
  settings.port_follows_interface = flag_of(options, "portFollowsInterface");
  settings.keep_session_on_new_psk = flag_of(options, "keepSessionOnNewPresharedKey");
  if (options.Get("tun").IsObject()) settings.tun = tun_of(options.Get("tun").As<Napi::Object>());
  if (options.Get("stack").IsObject()) settings.stack = stack_of(options.Get("stack").As<Napi::Object>());
  if (options.Get("guest").IsObject()) settings.guest = guest_of(options.Get("guest").As<Napi::Object>());
}

}  // namespace omerta::addon
