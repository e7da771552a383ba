import CDeviceSources
import Glibc

/// Makes bitcode of C: Debian's clang with its BPF front end, which records each access to a kernel struct by name.
///
/// Also of Embedded Swift, with a window in C. The headers that monitors include (`grass.h`, `kernel.h`, …) are part of this
/// module: a monitor compiles wherever its file lies. What lies beside it comes first.
public struct FrontEnd: Sendable {
  /// The compilers to run.
  public var clang: String
  public var swiftc: String
  /// Where headers are looked for, after the source's own folder and before this module's own.
  public var includePaths: [String]

  public init(clang: String = "clang-19", swiftc: String = "swiftc", includePaths: [String] = []) {
    self.clang = clang
    self.swiftc = swiftc
    self.includePaths = includePaths
  }

  private static let arguments = [
    "-target", "bpf", "-std=gnu17", "-g", "-O1", "-Xclang", "-disable-llvm-passes", "-ffreestanding",
    "-fno-builtin", "-ftrivial-auto-var-init=zero", "-fno-strict-aliasing", "-fwrapv", "-Wall", "-Werror",
    "-emit-llvm", "-c",
  ]

  /// The GPU's resident program is no monitor: it is compiled for the GPU from the start.
  ///
  /// Without vectors of bytes: clang 19 loads several of them by one instruction wherever they lie, and a GPU faults at one whose
  /// address is no multiple of its size.
  private static let gpuArguments = [
    "-target", "nvptx64-nvidia-cuda", "-march=sm_70", "-Xclang", "-target-feature", "-Xclang", "+ptx70", "-std=gnu17",
    "-O2", "-fno-slp-vectorize", "-fno-vectorize", "-ffreestanding", "-fno-strict-aliasing", "-fwrapv", "-Wall",
    "-Werror", "-emit-llvm",
    "-c",
  ]

  /// Compiles one C file, or a Swift file and the header beside it.
  ///
  /// Cost: a run of clang, about a tenth of a second, and one of swiftc, about one second.
  public func compile(_ path: String) throws(LLViewError) -> [UInt8] {
    if path.hasSuffix(".swift") { return try compileSwift(path) }
    return try compile(path, Self.arguments)
  }

  /// Compiles a Swift monitor's header as if it were a C file.
  func compileWindow(_ path: String) throws(LLViewError) -> [UInt8] {
    try compile(path, Self.arguments + ["-x", "c", "-Wno-pragma-once-outside-header"])
  }

  private func compile(_ path: String, _ arguments: [String]) throws(LLViewError) -> [UInt8] {
    let name = Self.name(of: path)
    let folder = try TemporaryFolder(for: name)
    let headers = try Self.writeHeaders(for: name)
    let output = folder.path + "/out.bc"
    try run(
      [clang] + arguments + includeArguments(headers) + [path, "-o", output], for: name, in: folder)
    return try Self.read(output)
  }

  func includeArguments(_ headers: borrowing TemporaryFolder) -> [String] {
    (includePaths + [headers.path, headers.path + "/swift"]).map { "-I\($0)" }
  }

  /// Writes the headers that monitors include, as they lie in `monitors`.
  static func writeHeaders(for name: String) throws(LLViewError) -> TemporaryFolder {
    let folder = try TemporaryFolder(for: name, subfolders: ["records", "swift"])
    for (file, text) in DeviceSources.list(GRASS_FOR_MONITORS) { try folder.write(text, file) }
    return folder
  }

  /// Runs a compiler.
  ///
  /// `package` is what has it.
  func run(
    _ command: [String], for name: String, in folder: borrowing TemporaryFolder,
    package: String = "Debian's clang-19 (scripts/setup does)"
  ) throws(LLViewError) {
    let errors = folder.path + "/errors"
    let status = Self.run(command, errors: errors)
    let messages = String(decoding: (try? Self.read(errors)) ?? [], as: UTF8.self)
    guard status == 0 else {
      let why =
        status == 127 || status < 0
        ? "\(command[0]) could not be run; install \(package)" : "\n\(messages)"
      throw LLViewError(name, .frontEnd(why))
    }
  }

  /// Makes a shared object of an object file, which a device of this machine loads.
  func link(_ object: [UInt8], name: String) throws(LLViewError) -> [UInt8] {
    let folder = try TemporaryFolder(for: name)
    try folder.write(object, "program.o")
    let output = folder.path + "/program.so"
    try run(
      [clang, "-shared", "-nostdlib", "-Wl,-z,now", "-Wl,-z,noexecstack", folder.path + "/program.o", "-o", output],
      for: name,
      in: folder)
    return try Self.read(output)
  }

  /// The runtime that LLView links into every monitor, from the source that this program has with it.
  static let runtime = Result { () throws(LLViewError) in
    try compile("runtime", DeviceSources.list(GRASS_FOR_PROGRAMS, GRASS_RUNTIME), arguments)
  }

  /// A GPU's resident program.
  static let resident = Result { () throws(LLViewError) in
    try compile("resident", DeviceSources.list(GRASS_FOR_PROGRAMS, GRASS_RESIDENT), gpuArguments)
  }

  /// The same for regions with keys.
  static let residentWithKeys = Result { () throws(LLViewError) in
    let sources = DeviceSources.list(GRASS_FOR_PROGRAMS, GRASS_RESIDENT, GRASS_RESIDENT_KEYS)
    return try compile("resident", sources, gpuArguments + ["-DGRASS_GPU_KEYS=1"])
  }

  private static func compile(
    _ name: String, _ sources: [(name: String, text: [UInt8])], _ arguments: [String]
  ) throws(LLViewError) -> [UInt8] {
    let folder = try TemporaryFolder(for: name)
    for (file, text) in sources { try folder.write(text, file) }
    return try FrontEnd().compile("\(folder.path)/\(name).c", arguments)
  }

  /// A monitor's name where only its file is known.
  public static func name(of path: String) -> String {
    let file = path.split(separator: "/").last.map(String.init) ?? path
    return file.split(separator: ".").first.map(String.init) ?? file
  }

  /// All bytes of a file, of 64 MiB at most.
  public static func read(_ path: String) throws(LLViewError) -> [UInt8] {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else {
      throw LLViewError(name(of: path), .frontEnd("\(path): \(String(cString: strerror(errno)))"))
    }
    defer { close(file) }
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count < 64 << 20 {
      let count = Glibc.read(file, &part, part.count)
      guard count > 0 else { break }
      bytes += part[..<count]
    }
    return bytes
  }

  /// Runs a program and waits for it.
  ///
  /// - Returns: its exit status, or -1 where it could not be started or was killed.
  static func run(_ command: [String], errors: String) -> Int32 {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var process = pid_t()
    guard posix_spawnp(&process, command[0], &actions, nil, &arguments, environ) == 0 else { return -1 }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 { guard errno == EINTR else { return -1 } }
    return status & 0x7f == 0 ? status >> 8 & 0xff : -1
  }
}

/// A folder for a compiler's files, removed with what is in it.
struct TemporaryFolder: ~Copyable {
  let path: String
  private let subfolders: [String]

  init(for monitor: String, subfolders: [String] = []) throws(LLViewError) {
    var name = Array("/tmp/grass-monitor-XXXXXX".utf8CString)
    guard mkdtemp(&name) != nil else {
      throw LLViewError(monitor, .frontEnd("no folder in /tmp: \(String(cString: strerror(errno)))"))
    }
    let path = name.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
    for folder in subfolders where mkdir("\(path)/\(folder)", 0o700) != 0 {
      let why = String(cString: strerror(errno))
      for made in subfolders { rmdir("\(path)/\(made)") }
      rmdir(path)
      throw LLViewError(monitor, .frontEnd("\(path)/\(folder): \(why)"))
    }
    self.path = path
    self.subfolders = subfolders
  }

  func write(_ bytes: [UInt8], _ file: String) throws(LLViewError) {
    let descriptor = open("\(path)/\(file)", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    defer { if descriptor >= 0 { close(descriptor) } }
    guard descriptor >= 0, Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
      throw LLViewError(file, .frontEnd("\(path)/\(file): \(String(cString: strerror(errno)))"))
    }
  }

  deinit {
    for folder in subfolders { Self.remove("\(path)/\(folder)") }
    Self.remove(path)
  }

  /// Removes a folder and the files in it.
  private static func remove(_ path: String) {
    if let folder = opendir(path) {
      while let entry = readdir(folder) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
          $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { unlink("\(path)/\(name)") }
      }
      closedir(folder)
    }
    rmdir(path)
  }
}
