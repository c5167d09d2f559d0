#ifndef IMAGEIO_NATIVE_EVENT_QUEUE_H_
#define IMAGEIO_NATIVE_EVENT_QUEUE_H_

#include <napi.h>

#include <functional>
#include <mutex>
#include <utility>
#include <vector>

namespace imageio {

// Brings events from threads of the addon to one JavaScript function, in order and in batches.
// `Sink` is an interface with Post(Event).
template <typename Event, typename Sink>
class EventQueue final : public Sink {
 public:
  // Calls the function with what the event is to JavaScript.
  using Tell = std::function<void(Napi::Env, const Napi::Function&, const Event&)>;

  EventQueue(Napi::Env env, const Napi::Function& callback, const char* name, Tell tell)
      : function_(Napi::ThreadSafeFunction::New(env, callback, name, 0, 1)),
        tell_(std::move(tell)) {}

  // An event that is awaited keeps the process no longer.
  void Unref(Napi::Env env) { function_.Unref(env); }

  void Post(Event event) override {
    const std::scoped_lock lock(mutex_);
    if (is_closed_) return;
    events_.push_back(std::move(event));
    if (events_.size() > 1) return;  // who was called for the first takes all
    function_.NonBlockingCall(
        [this](Napi::Env env, const Napi::Function& callback) { Deliver(env, callback); });
  }

  // On JavaScript's thread; nothing is delivered any more.
  void Close() {
    {
      const std::scoped_lock lock(mutex_);
      if (std::exchange(is_closed_, true)) return;
      events_.clear();
    }
    function_.Abort();
  }

 private:
  void Deliver(Napi::Env env, const Napi::Function& callback) {
    std::vector<Event> events;
    {
      const std::scoped_lock lock(mutex_);
      events.swap(events_);
    }
    for (const Event& event : events) {
      const Napi::HandleScope scope(env);
      tell_(env, callback, event);
    }
  }

  Napi::ThreadSafeFunction function_;
  const Tell tell_;
  std::mutex mutex_;
  std::vector<Event> events_;
  bool is_closed_ = false;
};

}  // namespace imageio

#endif  // IMAGEIO_NATIVE_EVENT_QUEUE_H_
