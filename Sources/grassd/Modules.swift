import CUDA
import Glibc
import KernelInfo
import KernelViews
import Monitor

/// The modules that a device is to have: sources, which are compiled for a kernel, or a program that was.
struct Modules {
  let paths: [String]
  let device: DeviceName

  private var areSources: Bool { paths.allSatisfy { $0.hasSuffix(".c") } }

  /// The program for a kernel.
  ///
  /// Sources are compiled in a process of its own: whatever a compiler does there, this one goes on watching.
  func program(for kernel: Kernel, memory: String) throws -> ModuleProgram {
    guard areSources else {
      guard paths.count == 1 else { throw ServerError.mixedMonitors }
      let program = try ModuleProgram(path: paths[0])
      let found = "\(kernel.release) \(kernel.found.coreInfo.buildID ?? "")"
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
    try run(["compile"] + paths + ["--memory", memory, "--target", target, "--output", output])
    return try ModuleProgram(path: output)
  }

  private func run(_ arguments: [String]) throws {
    var values: [UnsafeMutablePointer<CChar>?] = (["grassd"] + arguments).map { strdup($0) } + [nil]
    defer { for value in values { free(value) } }
    // The compiler's process takes the signals that this one holds back.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    var process = pid_t()
    guard posix_spawn(&process, "/proc/self/exe", nil, &attributes, &values, environ) == 0 else {
      throw ServerError.compiler("it could not be started: \(String(cString: strerror(errno)))")
    }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 {
      guard errno == EINTR else { throw ServerError.compiler("waitpid: \(String(cString: strerror(errno)))") }
    }
    guard status == 0 else { throw ServerError.compiler("it failed; its reason is above") }
  }
}
