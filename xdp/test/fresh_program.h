// SPDX-License-Identifier: Apache-2.0
// A program whose maps are as new. The verifier takes a second and more to load one, and tests want many that
// know nothing of each other: one that is given back is emptied, and is the next test's.
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/shared_mapping.h"
#include "xdp/file_descriptor.h"
#include "xdp/map_facts.h"
#include "xdp/relay_program.h"

namespace omerta::xdp {

/// A map of a program, and what it held when this was made.
class KeptMap {
 public:
  explicit KeptMap(uint32_t id) : fd_(bpf_map_get_fd_by_id(id)), facts_(map_facts(fd_.get())) {
    if (!is_shared()) return;
    memory_.emplace(fd_.get(), size(), facts_.name);
    first_.assign(bytes(), bytes() + size());
  }
  /// The map holds what it held.
  void restore() {
    switch (facts_.type) {
      case BPF_MAP_TYPE_ARRAY:
        if (is_shared()) std::ranges::copy(first_, bytes());
        return;
      case BPF_MAP_TYPE_PERCPU_ARRAY:
        return zero_rows();
      case BPF_MAP_TYPE_HASH:
      case BPF_MAP_TYPE_LRU_HASH:
      case BPF_MAP_TYPE_DEVMAP_HASH:
        return delete_all();
      default:
        throw std::logic_error(std::string("it is not known how to empty the map ") + facts_.name);
    }
  }

 private:
  /// Constants of the program are frozen: they stay as they are.
  bool is_shared() const {
    if (facts_.type != BPF_MAP_TYPE_ARRAY || (facts_.map_flags & BPF_F_RDONLY_PROG) != 0) return false;
    if ((facts_.map_flags & BPF_F_MMAPABLE) == 0)
      throw std::logic_error(std::string("not in shared memory: the map ") + facts_.name);
    return true;
  }
  static size_t in_words(size_t value_size) { return (value_size + 7) / 8 * 8; }
  size_t size() const { return facts_.max_entries * in_words(facts_.value_size); }
  uint8_t* bytes() const { return memory_->as<uint8_t>(); }
  void zero_rows() const {
    const std::vector<uint8_t> rows(in_words(facts_.value_size) *
                                    static_cast<size_t>(libbpf_num_possible_cpus()));
    for (uint32_t key = 0; key < facts_.max_entries; key++)
      done(bpf_map_update_elem(fd_.get(), &key, rows.data(), BPF_ANY));
  }
  void delete_all() const {
    std::vector<uint8_t> key(facts_.key_size);
    while (bpf_map_get_next_key(fd_.get(), nullptr, key.data()) == 0)
      done(bpf_map_delete_elem(fd_.get(), key.data()));
  }
  void done(int result) const {
    if (result != 0) throw std::runtime_error(std::string("the map is not emptied: ") + facts_.name);
  }

  FileDescriptor fd_;
  bpf_map_info facts_;
  std::optional<SharedMapping> memory_;  ///< of an array
  std::vector<uint8_t> first_;
};

class FreshProgram {
 public:
  /// @param options the same each time. @throws XdpError as RelayProgram()
  explicit FreshProgram(const RelayProgram::Options& options) {
    if (idle().empty()) {
      loaded_ = std::make_unique<Loaded>(options);
    } else {
      loaded_ = std::move(idle().back());
      idle().pop_back();
    }
  }
  ~FreshProgram() {
    for (KeptMap& map : loaded_->maps) map.restore();
    idle().push_back(std::move(loaded_));
  }
  FreshProgram(const FreshProgram&) = delete;
  FreshProgram& operator=(const FreshProgram&) = delete;

  RelayProgram& operator*() const { return loaded_->program; }
  RelayProgram* operator->() const { return &loaded_->program; }

 private:
  struct Loaded {
    explicit Loaded(const RelayProgram::Options& options) : program(options) {
      std::array<uint32_t, 64> ids{};
      bpf_prog_info info{};
      info.nr_map_ids = static_cast<uint32_t>(ids.size());
      info.map_ids = reinterpret_cast<uintptr_t>(ids.data());
      uint32_t size = sizeof info;
      if (bpf_obj_get_info_by_fd(program.fd(), &info, &size) != 0 || info.nr_map_ids > ids.size())
        throw std::runtime_error("the kernel does not tell the program's maps");
      maps.reserve(info.nr_map_ids);
      for (uint32_t i = 0; i < info.nr_map_ids; i++) maps.emplace_back(ids[i]);
    }
    RelayProgram program;
    std::vector<KeptMap> maps;
  };
  static std::vector<std::unique_ptr<Loaded>>& idle() {
    static std::vector<std::unique_ptr<Loaded>> programs;
    return programs;
  }

  std::unique_ptr<Loaded> loaded_;
};

}  // namespace omerta::xdp
