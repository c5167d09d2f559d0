#ifndef IMAGEIO_NATIVE_TRANSPORT_TRANSPORT_H_
#define IMAGEIO_NATIVE_TRANSPORT_TRANSPORT_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "../file_descriptor.h"
#include "connection.h"
#include "event.h"
#include "listener.h"
#include "poller.h"

namespace imageio::transport {

// The threads, and all that they drive. Methods are for JavaScript's thread unless they say
// otherwise.
class Transport final : public ConnectionHost {
 public:
  Transport(EventSink& sink, unsigned threads, std::string token);
  // Joins the threads; connections are cut.
  ~Transport() override;

  uint64_t Listen(FileDescriptor socket, std::shared_ptr<TlsContext> tls,
                  std::chrono::milliseconds handshake_timeout);
  // Opens a connection to a server.
  uint64_t Dial(Route route, std::shared_ptr<TlsContext> tls);
  void SetTls(uint64_t listener, std::shared_ptr<TlsContext> tls);
  void StopListening(uint64_t listener);

  // Nothing when it is closed.
  std::shared_ptr<Connection> Find(uint64_t connection);

  // For connections, from any thread.
  Poller& poller() override { return poller_; }
  void Post(Event event) override { sink_.Post(std::move(event)); }
  void Enqueue(uint64_t connection) override;
  void Forget(uint64_t connection) override;
  const std::string& token() const override { return token_; }

 private:
  enum Signal : uint64_t { kQueue = 0, kClock = 1, kStop = 2 };

  void Work();
  void Handle(Subject subject, uint64_t id, uint32_t events);
  void RunQueue();
  void Wake();
  void Tick();
  void AcceptFrom(uint64_t listener);
  void Add(ConnectionOptions options, FileDescriptor socket);
  // Until the next tick.
  void Rest(uint64_t listener);
  std::shared_ptr<Listener> FindListener(uint64_t listener);

  EventSink& sink_;
  const std::string token_;
  Poller poller_;
  FileDescriptor wake_;
  FileDescriptor clock_;
  FileDescriptor stop_;
  Watch stop_watch_;
  std::atomic<bool> is_stopping_{false};

  std::shared_mutex connections_mutex_;
  std::unordered_map<uint64_t, std::shared_ptr<Connection>> connections_;
  std::atomic<uint64_t> last_connection_{0};

  std::mutex listeners_mutex_;
  std::unordered_map<uint64_t, std::shared_ptr<Listener>> listeners_;
  std::vector<uint64_t> resting_listeners_;
  uint64_t last_listener_ = 0;

  std::mutex queue_mutex_;
  std::deque<uint64_t> queue_;

  std::vector<std::jthread> threads_;
};

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_TRANSPORT_H_
