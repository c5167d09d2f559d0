#ifndef IMAGEIO_NATIVE_NBD_PENDING_READ_H_
#define IMAGEIO_NATIVE_NBD_PENDING_READ_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>

#include "coverage.h"

namespace imageio::nbd {

// A read that was sent, and how much of its data has come.
class PendingRead {
 public:
  // `target` is where the data goes, all of it, and belongs to the read.
  PendingRead(uint64_t offset, std::span<uint8_t> target)
      : offset_(offset), target_(target), coverage_(offset, target.size()) {}

  uint64_t offset() const { return offset_; }
  size_t size() const { return target_.size(); }

  // The memory of a part of the image, which comes once and only once. Nothing, or what is wrong.
  const char* Place(uint64_t offset, uint64_t size, std::span<uint8_t>* place);

  // The server has told an error of it: it may end with less than all.
  void Fail() { has_failed_ = true; }
  bool MayEnd() const { return has_failed_ || coverage_.IsComplete(); }

 private:
  uint64_t offset_;
  std::span<uint8_t> target_;
  Coverage coverage_;
  uint64_t chunks_ = 0;
  bool has_failed_ = false;
};

// The reads of one connection by their cookies: added by JavaScript's thread, found and removed by
// who receives.
class PendingReads {
 public:
  void Add(uint32_t cookie, PendingRead read);
  // Stays where it is until it is removed.
  PendingRead* Find(uint32_t cookie);
  void Remove(uint32_t cookie);
  void Clear();

 private:
  std::mutex mutex_;
  std::unordered_map<uint32_t, PendingRead> reads_;
};

}  // namespace imageio::nbd

#endif  // IMAGEIO_NATIVE_NBD_PENDING_READ_H_
