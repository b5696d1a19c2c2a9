// SPDX-License-Identifier: Apache-2.0
#include "xdp/loopback_forwarding.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include <omerta/xdp_maps.h>
#include "xdp/file_descriptor.h"

namespace omerta::xdp {
namespace {

const char* const kIpv4 = "/proc/sys/net/ipv4/conf/lo/forwarding";
const char* const kIpv6 = "/proc/sys/net/ipv6/conf/lo/forwarding";

bool is_on(const char* path) {
  const FileDescriptor file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return errno == ENOENT;
  char value = '0';
  return read(file.get(), &value, 1) == 1 && value != '0';
}

bool write_value(const char* path, char value) {
  const FileDescriptor file(open(path, O_WRONLY | O_CLOEXEC));
  return file && write(file.get(), &value, 1) == 1;
}

}  // namespace

LoopbackForwarding loopback_forwarding() { return {is_on(kIpv4), is_on(kIpv6)}; }

uint32_t enable_loopback_forwarding() {
  uint32_t changed = 0;
  if (!is_on(kIpv4) && write_value(kIpv4, '1')) changed |= OMERTA_XDP_SET_FORWARDING_4;
  if (!is_on(kIpv6) && write_value(kIpv6, '1')) changed |= OMERTA_XDP_SET_FORWARDING_6;
  return changed;
}

void disable_loopback_forwarding(uint32_t flags) {
  if ((flags & OMERTA_XDP_SET_FORWARDING_4) != 0) write_value(kIpv4, '0');
  if ((flags & OMERTA_XDP_SET_FORWARDING_6) != 0) write_value(kIpv6, '0');
}

}  // namespace omerta::xdp
