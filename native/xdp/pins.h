// SPDX-License-Identifier: Apache-2.0
// Where a relay's programs, links and maps are kept alive without a process:
//
//   /sys/fs/bpf/omerta/PORT-NAMESPACE/        NAMESPACE: inode of the network namespace
//     link-INTERFACE                          one for each interface, by its index
//     v2/program v2/legs v2/counters …         the program, maps of layout 2 (OMERTA_XDP_LAYOUT)
//
// Maps of another layout lie in another folder: a daemon sees at once what it must not adopt.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "xdp/file_descriptor.h"
#include "xdp/xdp_error.h"

namespace omerta::xdp {

class Pins {
 public:
  /// The pins of the relay at `port` in the network namespace of this thread.
  explicit Pins(uint16_t port);

  const std::string& folder() const { return folder_; }
  bool exist() const;
  /// Makes the folders. @throws XdpError bpffs, file_refused
  void create() const;

  /// Opens what is pinned in the folder of the present layout; empty when there is nothing.
  FileDescriptor open(const std::string& name) const;
  /// Pins in the folder of the present layout, in place of what was there.
  void pin(int fd, const std::string& name) const;
  void unpin(const std::string& name) const;

  /// Interfaces with a pinned link.
  std::vector<uint32_t> links() const;
  std::string link_path(uint32_t interface) const;
  /// Pins a link. @throws XdpError
  void pin_link(int fd, uint32_t interface) const;
  /// Detaches a pinned link and removes the pin.
  void drop_link(uint32_t interface) const;

  /// Folders of other layouts.
  std::vector<std::string> foreign_layouts() const;
  void remove_layout(const std::string& folder) const;
  /// Takes everything away, links first: nothing of this relay is in the kernel any more, but for
  /// what a process still holds.
  void remove() const;

 private:
  std::string layout_folder() const;
  std::string folder_;
};

/// Opens a pinned object; empty when there is none. @throws XdpError file_refused
FileDescriptor open_pin(const std::string& path);

}  // namespace omerta::xdp
