// SPDX-License-Identifier: Apache-2.0
#include "xdp/attachment.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "xdp/interface_facts.h"

namespace omerta::xdp {
namespace {

/// Lost frames that say nothing: a full queue for a moment.
constexpr uint64_t kForgivenErrors = 16;
constexpr Nanoseconds kForGood = UINT64_MAX;

/// The interface a link leads to; 0 when the interface is gone or somebody detached it.
uint32_t interface_of(int link) {
  bpf_link_info info{};
  uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(link, &info, &size) != 0 || info.type != BPF_LINK_TYPE_XDP) return 0;
  return info.xdp.ifindex;
}

XdpError attach_error(const std::string& interface, Mode mode, int error) {
  using Code = XdpError::Code;
  const InterfaceFacts facts = interface_facts(interface).value_or(InterfaceFacts{});
  const auto number = static_cast<uint64_t>(error);
  if (error == EBUSY || error == EEXIST) return XdpError(Code::busy, {}, facts.program_id);
  if (error == EPERM || error == EACCES) return XdpError(Code::attach_refused);
  // virtio, ixgbe, veth and others answer one of these when a frame may not fit one page.
  const bool big = facts.mtu > 1500;
  if (mode == Mode::native && (error == ERANGE || (big && (error == EINVAL || error == EOPNOTSUPP))))
    return XdpError(Code::mtu, {}, facts.mtu);
  if (mode == Mode::native && (error == EOPNOTSUPP || error == EINVAL))
    return XdpError(Code::no_native_mode, {}, number);
  return XdpError(Code::attach_failed, {}, number);
}

}  // namespace

void Attachment::attach(int program_fd, const Pins& pins) {
  const uint32_t times = status_.times;
  status_ = {};
  status_.interface = interface_;
  status_.times = times;
  link_.reset();
  try {
    const uint32_t index = if_nametoindex(interface_.c_str());
    if (index == 0) throw XdpError(XdpError::Code::interface, interface_);
    status_.index = index;
    status_.driver = interface_facts(interface_).value_or(InterfaceFacts{}).driver;
    status_.adopted = update_pinned(program_fd, pins, index);
    if (!status_.adopted) create(program_fd, pins, index);
    status_.attached = true;
    status_.times++;
    look_at_redirection();
    errors_seen_ = transmit_counts(interface_).value_or(TransmitCounts{}).errors;
    deliveries_.reset();
  } catch (const XdpError& error) {
    link_.reset();
    refuse(error);
  }
}

/// Replaces the program of a link that is pinned: each packet meets the former one or the new one.
bool Attachment::update_pinned(int program_fd, const Pins& pins, uint32_t index) {
  FileDescriptor link = open_pin(pins.link_path(index));
  if (!link) return false;
  const std::optional<InterfaceFacts> facts = interface_facts(interface_);
  const bool same_mode = facts.has_value() && facts->generic == (mode_ == Mode::generic);
  if (interface_of(link.get()) != index || !same_mode) {
    pins.drop_link(index);
    return false;
  }
  if (bpf_link_update(link.get(), program_fd, nullptr) != 0) throw attach_error(interface_, mode_, errno);
  link_ = std::move(link);
  return true;
}

void Attachment::create(int program_fd, const Pins& pins, uint32_t index) {
  LIBBPF_OPTS(bpf_link_create_opts, options);
  options.flags = mode_ == Mode::native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
  const int fd = bpf_link_create(program_fd, static_cast<int>(index), BPF_XDP, &options);
  if (fd < 0) throw attach_error(interface_, mode_, errno);
  link_ = FileDescriptor(fd);
  pins.pin_link(fd, index);
}

void Attachment::check(int program_fd, const Pins& pins, uint64_t forwarded, Nanoseconds now) {
  if (now < demoted_until_) return;
  demoted_until_ = 0;
  const uint32_t index = if_nametoindex(interface_.c_str());
  if (link_ && index != 0 && interface_of(link_.get()) == index) {
    look_at_redirection();
    demote_if_losing(pins, forwarded, now);
    return;
  }
  if (status_.attached) pins.drop_link(status_.index);
  attach(program_fd, pins);
  forwarded_seen_ = forwarded;
}

/// A veth takes none while its other end has neither GRO nor an XDP program, which may change at any time.
/// The kernel drops what is redirected to it then, and no counter of the interface says so.
void Attachment::look_at_redirection() {
  const std::optional<uint64_t> features =
      mode_ == Mode::generic ? std::nullopt
                             : interface_facts(interface_).value_or(InterfaceFacts{}).xdp_features;
  status_.takes_redirected = !features.has_value() || (*features & kXdpTransmit) != 0;
}

/// A driver that takes frames and loses them is worse than none (a veth whose peer runs no program). One that
/// has no room for them may have been sent more than it can send, by whoever likes to: it is tried again
/// after a pause.
void Attachment::demote_if_losing(const Pins& pins, uint64_t forwarded, Nanoseconds now) {
  const std::optional<uint32_t> delivered = packets_sent(interface_);  // before what it took
  const std::optional<TransmitCounts> counts = transmit_counts(interface_);
  if (!counts.has_value()) return;  // the next are compared with what was seen last
  const uint64_t lost = counts->errors - std::min(counts->errors, errors_seen_);
  const uint64_t sent = forwarded - std::min(forwarded, forwarded_seen_);
  errors_seen_ = counts->errors;
  forwarded_seen_ = forwarded;
  if (lost > kForgivenErrors && lost * 10 >= sent)
    return demote(pins, XdpError(XdpError::Code::loses_frames, std::to_string(sent), lost),
                  now + pause_.next());
  if (status_.driver != "veth" || !delivered.has_value()) return;
  if (const uint64_t lying = deliveries_.look(*delivered, counts->taken, now); lying != 0)
    demote(pins, XdpError(XdpError::Code::keeps_frames, {}, lying), kForGood);
}

void Attachment::demote(const Pins& pins, const XdpError& reason, Nanoseconds until) {
  pins.drop_link(status_.index);
  link_.reset();
  demoted_until_ = until;
  status_.attached = false;
  refuse(reason);
}

void Attachment::refuse(const XdpError& reason) {
  status_.code = reason.name();
  status_.detail = reason.detail();
  status_.number = reason.number();
}

}  // namespace omerta::xdp
