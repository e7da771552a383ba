import CUDA
import Devices
import Glibc
import KernelInfo
import LinuxKernel

/// The modules that a device is to have: sources, which are compiled for a kernel, or a program that was.
struct Modules {
  let paths: [String]
  let device: DeviceName

  private var areSources: Bool { paths.allSatisfy { $0.hasSuffix(".c") || $0.hasSuffix(".swift") } }

  /// The program for a kernel.
  func program(for kernel: Kernel, memory: String) throws -> ModuleProgram {
    guard areSources else {
      guard paths.count == 1 else { throw ServerError.mixedMonitors }
      let program = try ModuleProgram(path: paths[0])
      let found = "\(kernel.release) \(kernel.found.buildID ?? "")"
      guard program.kernel == found else { throw ServerError.otherKernel(path: paths[0], program.kernel, found) }
      return program
    }
    var template = Array("/tmp/grass-modules-XXXXXX".utf8CString)
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
    try Compiler.run(paths + ["--memory", memory, "--target", target, "--output", output])
    return try ModuleProgram(path: output)
  }
}
