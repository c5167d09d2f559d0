#ifndef IMAGEIO_NATIVE_NBD_COVERAGE_H_
#define IMAGEIO_NATIVE_NBD_COVERAGE_H_

#include <cstdint>
#include <vector>

namespace imageio::nbd {

// Which parts of [offset, offset + size) have come. Servers send a few large ones.
class Coverage {
 public:
  Coverage(uint64_t offset, uint64_t size) : start_(offset), end_(offset + size) {}

  // Nothing, or what is wrong with the part.
  const char* Add(uint64_t offset, uint64_t size);
  bool IsComplete() const;

 private:
  struct Part {
    uint64_t start;
    uint64_t end;
  };

  uint64_t start_;
  uint64_t end_;
  std::vector<Part> parts_;  // ordered, disjoint, with gaps between
};

}  // namespace imageio::nbd

#endif  // IMAGEIO_NATIVE_NBD_COVERAGE_H_
