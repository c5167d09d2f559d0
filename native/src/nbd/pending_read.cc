#include "pending_read.h"

#include <utility>

namespace imageio::nbd {

namespace {

// No server cuts smaller than its sectors, but for a few odd ends.
constexpr uint64_t kMinChunk = 512;
constexpr uint64_t kMaxChunks = 16;

}  // namespace

const char* PendingRead::Place(uint64_t offset, uint64_t size, std::span<uint8_t>* place) {
  if (++chunks_ > kMaxChunks + target_.size() / kMinChunk) return "data in crumbs";
  const char* problem = coverage_.Add(offset, size);
  if (problem == nullptr) *place = target_.subspan(offset - offset_, size);
  return problem;
}

void PendingReads::Add(uint32_t cookie, PendingRead read) {
  const std::scoped_lock lock(mutex_);
  reads_.insert_or_assign(cookie, std::move(read));
}

PendingRead* PendingReads::Find(uint32_t cookie) {
  const std::scoped_lock lock(mutex_);
  const auto found = reads_.find(cookie);
  return found == reads_.end() ? nullptr : &found->second;
}

void PendingReads::Remove(uint32_t cookie) {
  const std::scoped_lock lock(mutex_);
  reads_.erase(cookie);
}

void PendingReads::Clear() {
  const std::scoped_lock lock(mutex_);
  reads_.clear();
}

}  // namespace imageio::nbd
