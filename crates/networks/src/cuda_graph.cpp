// A CUDA graph of LibTorch's (at::cuda::CUDAGraph), and a stream to capture it on.
//
// The class's header needs CUDA's own headers, which set-up does not fetch, and a CPU build of LibTorch lacks
// the class. So its functions are looked up by name in the process when one is made. (LibTorch's version is
// pinned; at::accelerator::Graph has no CUDA form in it.)

#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <dlfcn.h>

#include <cstddef>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace {

// As c10::MempoolId_t; {0, 0} is a new pool of the graph's own.
using Pool = std::pair<unsigned long long, unsigned long long>;

template <typename F> F *function(const char *name) {
  void *found = dlsym(RTLD_DEFAULT, name);
  if (!found)
    throw std::runtime_error(std::string("this LibTorch has no CUDA graphs (") + name + ")");
  return reinterpret_cast<F *>(found);
}

struct Functions {
  void (*construct)(void *, bool) = function<void(void *, bool)>("_ZN2at4cuda9CUDAGraphC1Eb");
  void (*destroy)(void *) = function<void(void *)>("_ZN2at4cuda9CUDAGraphD1Ev");
  void (*begin)(void *, Pool, int) = function<void(void *, Pool, int)>(
      "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode");
  void (*end)(void *) = function<void(void *)>("_ZN2at4cuda9CUDAGraph11capture_endEv");
  void (*replay)(void *) = function<void(void *)>("_ZN2at4cuda9CUDAGraph6replayEv");
};

struct Graph {
  Functions call;
  // The object: 344 bytes in LibTorch 2.13.
  alignas(64) std::byte object[4096];

  Graph() { call.construct(object, false); }
  ~Graph() { call.destroy(object); }
};

// Whether some work succeeds; else its message is left in `error`.
template <typename Work> bool tried(char *error, size_t room, Work work) {
  try {
    work();
    return true;
  } catch (const std::exception &exception) {
    std::snprintf(error, room, "%s", exception.what());
    return false;
  }
}

} // namespace

extern "C" {

// A graph without work; null if there can't be one.
Graph *networks_graph_new(char *error, size_t room) {
  std::unique_ptr<Graph> graph;
  tried(error, room, [&] { graph = std::make_unique<Graph>(); });
  return graph.release();
}

void networks_graph_drop(Graph *graph) { delete graph; }

// From here on the current stream's work is recorded in place of being done.
bool networks_graph_begin(Graph *graph, char *error, size_t room) {
  // 0: as torch.cuda.graph, cudaStreamCaptureModeGlobal.
  return tried(error, room, [&] { graph->call.begin(graph->object, {0, 0}, 0); });
}

bool networks_graph_end(Graph *graph, char *error, size_t room) {
  return tried(error, room, [&] { graph->call.end(graph->object); });
}

// Puts the recorded work into the current stream.
bool networks_graph_replay(Graph *graph, char *error, size_t room) {
  return tried(error, room, [&] { graph->call.replay(graph->object); });
}

// The current device and its stream.
struct Current {
  int64_t device;
  c10::StreamData3 stream;
};

// Waits for a GPU, then makes it the current one with another stream than its default; `before` is what
// was.
bool networks_stream_enter(int device, Current *before, char *error, size_t room) {
  return tried(error, room, [&] {
    c10::impl::VirtualGuardImpl guard(c10::DeviceType::CUDA);
    c10::Device gpu(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device));
    // One for each GPU: libraries have their memory by stream.
    static std::map<int, c10::Stream> streams;
    auto stream = streams.try_emplace(device, guard.getStreamFromGlobalPool(gpu)).first->second;
    guard.synchronizeDevice(gpu.index());
    before->device = guard.exchangeDevice(gpu).index();
    before->stream = guard.exchangeStream(stream).pack3();
  });
}

// Waits for the GPU, and makes current what was before.
bool networks_stream_leave(const Current *before, char *error, size_t room) {
  return tried(error, room, [&] {
    c10::impl::VirtualGuardImpl guard(c10::DeviceType::CUDA);
    auto [id, index, type] = before->stream;
    guard.exchangeStream(c10::Stream::unpack3(id, index, type));
    guard.exchangeDevice({type, static_cast<c10::DeviceIndex>(before->device)});
    guard.synchronizeDevice(index);
  });
}
}
