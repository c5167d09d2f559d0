#ifndef IMAGEIO_NATIVE_NBD_ENGINE_H_
#define IMAGEIO_NATIVE_NBD_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../file_descriptor.h"
#include "../transport/poller.h"
#include "link.h"

namespace imageio::nbd {

// The threads, and the links they drive. Methods are for JavaScript's thread unless they say
// otherwise.
class Engine final : public LinkHost {
 public:
  Engine(EventSink& sink, unsigned threads);
  // Joins the threads; links are cut.
  ~Engine() override;

  // Takes a twin of a connected socket; the caller keeps and closes its own. Throws system_error.
  uint64_t Add(int socket, ReplyFormat format);
  // Nothing when it was removed.
  std::shared_ptr<Link> Find(uint64_t link);
  // Cuts it, see there.
  void Remove(uint64_t link);

  // For links, from any thread.
  void Post(Event event) override { sink_.Post(std::move(event)); }
  void Enqueue(uint64_t link, Side side) override;
  void Arm(int fd, transport::Watch& watch, uint64_t link, Side side) override;

 private:
  void Work();
  void RunQueue();

  EventSink& sink_;
  transport::Poller poller_;
  FileDescriptor wake_;
  FileDescriptor stop_;
  transport::Watch stop_watch_;
  std::atomic<bool> is_stopping_{false};

  std::shared_mutex links_mutex_;
  std::unordered_map<uint64_t, std::shared_ptr<Link>> links_;
  uint64_t last_link_ = 0;

  std::mutex queue_mutex_;
  std::deque<std::pair<uint64_t, Side>> queue_;

  std::vector<std::jthread> threads_;
};

}  // namespace imageio::nbd

#endif  // IMAGEIO_NATIVE_NBD_ENGINE_H_
