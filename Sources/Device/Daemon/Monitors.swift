import CUDA
package import Devices
import Glibc
package import LinuxKernel
import Memory

/// Where the monitors come from that a device is to have.
package protocol MonitorSource: AnyObject {
  /// Whether there are to be none.
  var isEmpty: Bool { get }

  /// The program for a kernel.
  ///
  /// `isFresh` says whether sources are read again; otherwise a program that was made for this build may serve.
  func program(for kernel: Kernel, isFresh: Bool) throws -> MonitorProgram
}

/// Monitors in files: sources, which are compiled for a kernel, or one program that was.
package final class MonitorFiles: MonitorSource {
  private let paths: [String]
  private let device: DeviceName
  private let known: BuildFolder?
  private let hasDetectors: Bool
  private let hasKeys: Bool
  /// The program that was made last.
  private var program: MonitorProgram?

  /// `hasDetectors` says whether the detectors that come with GRASS are added, `hasKeys` whether the region is one with keys.
  package init(
    _ paths: [String], for device: DeviceName, known: BuildFolder? = nil, hasDetectors: Bool = false,
    hasKeys: Bool = false
  ) {
    self.hasKeys = hasKeys
    self.known = known
    self.hasDetectors = hasDetectors
    self.paths = paths
    self.device = device
  }

  package var isEmpty: Bool { paths.isEmpty && !hasDetectors }

  private var areSources: Bool { paths.allSatisfy { $0.hasSuffix(".c") || $0.hasSuffix(".swift") } }

  package func program(for kernel: Kernel, isFresh: Bool) throws -> MonitorProgram {
    let build = "\(kernel.release) \(kernel.found.buildID ?? "")"
    if !isFresh, let program, program.kernel == build { return program }
    let made = try areSources ? compile(for: kernel) : load()
    guard areSources || made.kernel == build else {
      throw ServerError.otherKernel(path: paths[0], made.kernel, build)
    }
    program = made
    return made
  }

  private func load() throws -> MonitorProgram {
    guard paths.count == 1 else { throw ServerError.mixedMonitors }
    return try MonitorProgram(path: paths[0])
  }

  private func compile(for kernel: Kernel) throws -> MonitorProgram {
    guard let memory = kernel.memory as? FileMemory else { throw ServerError.compiler("the memory lies in no file") }
    var template = Array("/tmp/grass-monitors-XXXXXX".utf8CString)
    let file = mkstemp(&template)
    guard file >= 0 else { throw ServerError.compiler("mkstemp: \(String(cString: strerror(errno)))") }
    close(file)
    let output = template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
    defer { unlink(output) }
    let target =
      switch device {
      case .cpu: "native"
      case .gpu(let number): "sm_\(try GPU.number(number).capability)"
      }
    try Compiler.run(
      paths + ["--memory", memory.path, "--target", target, "--output", output]
        + (hasKeys && device != .cpu ? ["--keys"] : [])
        + (hasDetectors ? ["--detectors"] : []) + (known.map { ["--known", $0.path] } ?? ["--no-known"]))
    return try MonitorProgram(path: output)
  }
}
