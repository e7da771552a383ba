import CLinux
import CMailbox
import CRegion
import CRuntime
import Glibc

/// A device's monitors as one program, made ahead for one build of a kernel by `grassd compile`.
public struct MonitorProgram: Sendable {
  /// The monitors' names, by their numbers.
  public let names: [String]
  /// Of each a number that is the same as long as what it remembers means the same; 0 is never the same.
  let forms: [UInt64]
  /// The kernel that they fit: its release, a space and its build ID.
  public let kernel: String
  let code: Code
  /// Whether a GPU's program is one for regions with keys; it serves no others.
  let hasKeys: Bool

  enum Code: Sendable {
    case native(NativeCode)
    /// PTX, for a GPU of at least this compute capability.
    case gpu(ptx: [UInt8], capability: Int)
  }

  /// A loaded shared object.
  ///
  /// It stays loaded as long as this lives.
  final class NativeCode: @unchecked Sendable {
    // The handle is only closed; the function does not change.
    private let handle: UnsafeMutableRawPointer
    private let file: Int32
    let dispatch: @convention(c) (UnsafeMutablePointer<grass_lane_state>?, UInt32) -> Void

    init(handle: UnsafeMutableRawPointer, file: Int32, dispatch: UnsafeMutableRawPointer) {
      self.handle = handle
      self.file = file
      self.dispatch = unsafeBitCast(
        dispatch, to: (@convention(c) (UnsafeMutablePointer<grass_lane_state>?, UInt32) -> Void).self)
    }

    deinit {
      dlclose(handle)
      close(file)
    }
  }

  /// Loads a program: a shared object for this machine's processor, or PTX.
  ///
  /// The file is trusted: it is code that this process runs.
  ///
  /// - Throws: ``DeviceError`` where the file is no such program, or one of another version.
  public init(path: String) throws(DeviceError) {
    let bytes = try Self.read(path)
    if bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46]) {
      try self.init(sharedObject: bytes, path: path)
    } else {
      try self.init(ptx: bytes, path: path)
    }
  }

  /// Loads a copy that nobody else has: code must not change under a running monitor when its file is written anew, and
  /// the loader takes a path that it knows for the program that it has.
  private init(sharedObject bytes: [UInt8], path: String) throws(DeviceError) {
    let file = grass_memfd_create("grass-program", GRASS_MEMFD_PLAIN)
    guard file >= 0, write(file, bytes, bytes.count) == bytes.count,
      let handle = dlopen("/proc/self/fd/\(file)", RTLD_NOW | RTLD_LOCAL)
    else {
      let reason = String(cString: file < 0 ? strerror(errno) : dlerror() ?? strerror(errno))
      if file >= 0 { close(file) }
      throw DeviceError(.badProgram(path, reason))
    }
    guard let dispatch = dlsym(handle, "grass_dispatch"), let count = dlsym(handle, "grass_count"),
      let names = dlsym(handle, "grass_names"), let kernel = dlsym(handle, "grass_kernel")
    else {
      dlclose(handle)
      close(file)
      throw DeviceError(.badProgram(path, "it is not made by `grassd compile`"))
    }
    let size = Int(GRASS_NAME_SIZE)
    self.names = (0..<min(Int(count.load(as: UInt32.self)), 4096)).map { index in
      let name = UnsafeRawBufferPointer(start: names + index * size, count: size)
      return String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
    }
    self.kernel = String(cString: kernel.assumingMemoryBound(to: CChar.self))
    let forms = dlsym(handle, "grass_forms")
    self.forms = self.names.indices.map { forms?.load(fromByteOffset: $0 * 8, as: UInt64.self) ?? 0 }
    hasKeys = false
    code = .native(NativeCode(handle: handle, file: file, dispatch: dispatch))
  }

  private init(ptx: [UInt8], path: String) throws(DeviceError) {
    var values: [String: String] = [:]
    for line in ptx.prefix(65536).split(separator: UInt8(ascii: "\n")) {
      guard line.starts(with: Array("// ".utf8)) else { break }
      let words = String(decoding: line.dropFirst(3), as: UTF8.self).split(separator: " ", maxSplits: 1)
      if let key = words.first, values[String(key)] == nil {
        values[String(key)] = words.count > 1 ? String(words[1]) : ""
      }
    }
    guard values["grass"] == "program 2", let kernel = values["kernel"], let names = values["monitors"],
      let target = values["target"], target.hasPrefix("sm_"), let capability = Int(target.dropFirst(3))
    else { throw DeviceError(.badProgram(path, "it is neither a shared object nor PTX made by `grassd compile`")) }
    self.names = names.split(separator: " ").map(String.init)
    let forms = (values["forms"] ?? "").split(separator: " ").map { UInt64($0, radix: 16) ?? 0 }
    self.forms = self.names.indices.map { $0 < forms.count ? forms[$0] : 0 }
    self.kernel = kernel
    hasKeys = values["keys"] != nil
    code = .gpu(ptx: ptx, capability: capability)
  }

  private static func read(_ path: String) throws(DeviceError) -> [UInt8] {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw DeviceError(.badProgram(path, String(cString: strerror(errno)))) }
    defer { close(file) }
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count < 256 << 20 {
      let count = Glibc.read(file, &part, part.count)
      guard count > 0 else { break }
      bytes += part[..<count]
    }
    return bytes
  }

  /// How many of them remote hosts may ask for: the first ones.
  ///
  /// Behind them come the detectors.
  var monitorCount: Int { names.firstIndex { $0.hasPrefix(CPUDetectors.prefix) } ?? names.count }

  /// The numbers of the detectors, the one that tells the time first.
  var detectorNumbers: [Int] {
    let numbers = names.indices.filter {
      names[$0].hasPrefix(CPUDetectors.prefix) && names[$0] != CPUDetectors.words
    }
    return Array(
      (numbers.filter { names[$0] == CPUDetectors.clock } + numbers.filter { names[$0] != CPUDetectors.clock })
        .prefix(Int(GRASS_MAX_DETECTORS)))
  }

  /// The number of what gathers last words; nil where the program has none.
  var wordsNumber: Int? { names.firstIndex(of: CPUDetectors.words) }

  /// The names as the protocol has them.
  var answers: [grass_monitor_answer] {
    names.map { name in
      var answer = grass_monitor_answer()
      withUnsafeMutableBytes(of: &answer) { $0.copyBytes(from: Array(name.utf8).prefix(Int(GRASS_NAME_SIZE) - 1)) }
      return answer
    }
  }
}
