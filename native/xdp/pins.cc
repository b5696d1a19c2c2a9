// SPDX-License-Identifier: Apache-2.0
#include "xdp/pins.h"

#include <bpf/bpf.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include <omerta/xdp_maps.h>

namespace omerta::xdp {
namespace {

namespace fs = std::filesystem;

const char* const kFileSystem = "/sys/fs/bpf";
const char* const kRoot = "/sys/fs/bpf/omerta";
constexpr long kBpfFileSystem = 0xcafe4a11;  // linux/magic.h, BPF_FS_MAGIC
const std::string kLinkPrefix = "link-";

void require_file_system() {
  struct statfs found {};
  if (statfs(kFileSystem, &found) != 0 || found.f_type != kBpfFileSystem)
    throw XdpError(XdpError::Code::bpffs, kFileSystem);
}

[[noreturn]] void throw_file_error(const std::string& path, int error) {
  const bool refused = error == EACCES || error == EPERM;
  throw XdpError(refused ? XdpError::Code::file_refused : XdpError::Code::failed, path,
                 static_cast<uint64_t>(error));
}

std::vector<fs::path> entries_of(const std::string& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    found.push_back(at->path());
  return found;
}

uint64_t network_namespace() {
  struct stat found {};
  if (stat("/proc/thread-self/ns/net", &found) != 0) throw_file_error("/proc/thread-self/ns/net", errno);
  return found.st_ino;
}

void make_folder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) throw_file_error(path, errno);
}

}  // namespace

FileDescriptor open_pin(const std::string& path) {
  const int fd = bpf_obj_get(path.c_str());
  if (fd < 0 && errno != ENOENT) throw_file_error(path, errno);
  return FileDescriptor(fd < 0 ? -1 : fd);
}

Pins::Pins(uint16_t port)
    : folder_(std::string(kRoot) + "/" + std::to_string(port) + "-" + std::to_string(network_namespace())) {}

std::string Pins::layout_folder() const { return folder_ + "/v" + std::to_string(OMERTA_XDP_LAYOUT); }

bool Pins::exist() const {
  std::error_code error;
  return fs::exists(folder_, error);
}

void Pins::create() const {
  require_file_system();
  make_folder(kRoot);
  make_folder(folder_);
  make_folder(layout_folder());
}

FileDescriptor Pins::open(const std::string& name) const { return open_pin(layout_folder() + "/" + name); }

void Pins::pin(int fd, const std::string& name) const {
  unpin(name);
  const std::string path = layout_folder() + "/" + name;
  if (bpf_obj_pin(fd, path.c_str()) != 0) throw_file_error(path, errno);
}

void Pins::unpin(const std::string& name) const {
  const std::string path = layout_folder() + "/" + name;
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw_file_error(path, errno);
}

std::vector<uint32_t> Pins::links() const {
  std::vector<uint32_t> found;
  for (const fs::path& path : entries_of(folder_)) {
    const std::string name = path.filename();
    if (!name.starts_with(kLinkPrefix)) continue;
    found.push_back(static_cast<uint32_t>(std::strtoul(name.c_str() + kLinkPrefix.size(), nullptr, 10)));
  }
  return found;
}

std::string Pins::link_path(uint32_t interface) const {
  return folder_ + "/" + kLinkPrefix + std::to_string(interface);
}

void Pins::pin_link(int fd, uint32_t interface) const {
  const std::string path = link_path(interface);
  ::unlink(path.c_str());
  if (bpf_obj_pin(fd, path.c_str()) != 0) throw_file_error(path, errno);
}

void Pins::drop_link(uint32_t interface) const {
  const std::string path = link_path(interface);
  // Removing the last reference detaches too, but some time later.
  if (const FileDescriptor link(bpf_obj_get(path.c_str())); link) bpf_link_detach(link.get());
  ::unlink(path.c_str());
}

std::vector<std::string> Pins::foreign_layouts() const {
  std::vector<std::string> found;
  for (const fs::path& path : entries_of(folder_))
    if (path != layout_folder() && !path.filename().string().starts_with(kLinkPrefix)) found.push_back(path);
  return found;
}

void Pins::remove_layout(const std::string& folder) const {
  // remove_all() would ask for things the bpf file system does not have.
  for (const fs::path& path : entries_of(folder)) ::unlink(path.c_str());
  ::rmdir(folder.c_str());
}

void Pins::remove() const {
  for (const uint32_t interface : links()) drop_link(interface);
  for (const std::string& folder : foreign_layouts()) remove_layout(folder);
  remove_layout(layout_folder());
  ::rmdir(folder_.c_str());
  ::rmdir(kRoot);  // fails while another relay has pins there
}

}  // namespace omerta::xdp
