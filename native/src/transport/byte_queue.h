#ifndef IMAGEIO_NATIVE_TRANSPORT_BYTE_QUEUE_H_
#define IMAGEIO_NATIVE_TRANSPORT_BYTE_QUEUE_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>

namespace imageio::transport {

// Gives memory of mmap(2) back.
struct Unmap {
  size_t size = 0;
  void operator()(uint8_t* memory) const { static_cast<void>(munmap(memory, size)); }
};

// Bytes on their way, first in, first out, in one piece of memory that exists while it is used.
class ByteQueue {
 public:
  explicit ByteQueue(size_t capacity) : capacity_(capacity) {}

  bool empty() const { return begin_ == end_; }
  size_t size() const { return end_ - begin_; }
  size_t room() const { return capacity_ - size(); }
  std::span<const uint8_t> data() const { return {memory_.get() + begin_, size()}; }

  // Where more can be put; Added() says how much was.
  std::span<uint8_t> Room() {
    if (memory_ == nullptr) memory_ = Map(capacity_);
    if (empty()) begin_ = end_ = 0;
    // Moving is rare: what is taken out is mostly all there is.
    if (begin_ > 0 && capacity_ - end_ < capacity_ / 2) {
      std::memmove(memory_.get(), memory_.get() + begin_, size());
      end_ -= begin_;
      begin_ = 0;
    }
    return {memory_.get() + end_, capacity_ - end_};
  }

  void Added(size_t size) { end_ += size; }
  void Taken(size_t size) { begin_ += size; }

  // All of it, or nothing when there is no room for all.
  bool Append(const uint8_t* data, size_t size) {
    if (Room().size() < size) return false;
    std::memcpy(memory_.get() + end_, data, size);
    end_ += size;
    return true;
  }

  void Clear() { begin_ = end_ = 0; }

  bool HasIdleMemory() const { return memory_ != nullptr && empty(); }

  // Gives the memory back unless there is something in it.
  void Trim() {
    if (!empty()) return;
    Clear();
    memory_.reset();
  }

 private:
  using Memory = std::unique_ptr<uint8_t[], Unmap>;

  // From the kernel and back to it: the C library would keep most of what a thousand connections
  // had when they were busy. Of what is small only the pages that were used count.
  static Memory Map(size_t size) {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();  // NOLINT: the kernel's macro
    return Memory(static_cast<uint8_t*>(memory), Unmap{size});
  }

  const size_t capacity_;
  Memory memory_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_BYTE_QUEUE_H_
