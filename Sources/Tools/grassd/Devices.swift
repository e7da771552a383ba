import ArgumentParser
import CUDA
import Glibc

/// Lists what can run a monitor here.
struct Devices: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List the devices that can run a monitor, and what each can do.",
    discussion: """
      One line a device, by the name that --device takes. A GPU needs a program for its own kind of processor: \
      `grassd compile --target` with the name that stands beside it.
      """)

  func run() {
    print("cpu     this machine's \(sysconf(Int32(_SC_NPROCESSORS_ONLN))) processors; target native")
    do throws(CUDAError) {
      for gpu in try GPU.all() {
        let abilities = [
          gpu.mapsHostMemory ? "sees host memory" : "cannot see host memory",
          gpu.mapsReadOnly ? "without writing it" : nil,
          gpu.exportsMemory ? "exports its own to network cards" : nil,
        ].compactMap { $0 }
        print(
          "gpu:\(gpu.number)   \(gpu.name) at \(gpu.busID), \(gpu.multiprocessors) multiprocessors, \(gpu.memory >> 30) GiB; "
            + "target sm_\(gpu.capability); \(abilities.joined(separator: ", "))")
      }
    } catch {
      print("no GPU: \(error)")
    }
  }
}
