import Glibc
import KernelInfo
package import Memory
import Synchronization

/// A folder of known builds: the symbols and types of kernels that were proven whole, and which boots they were proven of.
///
/// ```
/// RELEASE-DIGEST.build   the tables of a build
/// RELEASE-DIGEST.unwind  its tables for unwinding stacks
/// approved/*.build       of builds that an operator vouches for: of a vendor's package, or of a host that he trusts
/// boots/MARK             a boot that was proven, with the digest of its build
/// ```
/// Tables whose digest is that of the watched memory's spare reading them. Where the memory's own do not serve, kept ones do only
/// if they are this boot's of this host, or approved. What the folder holds is checked as what the memory holds is.
public final class BuildFolder: Sendable {
  /// Its path.
  public let path: String

  /// More builds than these are not kept: the oldest goes.
  private static let mostBuilds = 32
  /// A host that shows other tables each time does not drive out all others.
  private static let mostOfOneBuild = 4
  private static let mostBoots = 256
  private static let longestBuild = 128 << 20

  /// Files that were read, by their paths, those that were asked for last at the end: hosts of one build share what was decoded of it.
  private let read = Mutex<[(path: String, file: FileMark, build: KnownBuild)]>([])
  /// So many builds are held, of some 20 MB each.
  private static let mostHeld = 4

  public init(path: String) { self.path = path }

  /// Where builds are kept unless something else was said: `builds` in `$GRASS_CACHE`, else below `grass` in
  /// `$XDG_CACHE_HOME` or in `~/.cache`; nil without a home.
  public static func standard() -> BuildFolder? {
    func value(_ name: String) -> String? {
      getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }
    let cache =
      value("GRASS_CACHE") ?? value("XDG_CACHE_HOME").map { $0 + "/grass" }
      ?? value("HOME").map { $0 + "/.cache/grass" }
    return cache.map { BuildFolder(path: $0 + "/builds") }
  }

  private var approved: String { path + "/approved" }
  private var boots: String { path + "/boots" }

  // MARK: Asking

  /// The builds that a kernel of this release may be: those of its build ID, or of which none is known; approved ones first.
  package func builds(release: String, buildID: String?) -> [KnownBuild] {
    let prefix = Self.fileName(release) + "-"
    return [approved, path].flatMap { folder in
      Self.files(in: folder, suffix: ".build").filter { $0.hasPrefix(prefix) || folder == approved }
        .compactMap { build("\(folder)/\($0)") }
    }.filter { $0.release == release && (buildID == nil || $0.buildID.isEmpty || $0.buildID == buildID) }
  }

  /// The build of this digest.
  package func build(_ digest: MemoryDigest) -> KnownBuild? {
    for folder in [approved, path] {
      for name in Self.files(in: folder, suffix: "-\(digest).build") {
        if let build = build("\(folder)/\(name)"), build.digest == digest { return build }
      }
    }
    return nil
  }

  /// The build in a file; read once as long as the file stays as it is.
  func build(_ path: String) -> KnownBuild? {
    // As it was before it was read: what is written meanwhile is read the next time.
    guard let file = FileMark(path) else { return nil }
    let held = read.withLock { read -> KnownBuild? in
      guard let index = read.firstIndex(where: { $0.path == path }) else { return nil }
      let entry = read.remove(at: index)
      guard entry.file == file else { return nil }
      read.append(entry)
      return entry.build
    }
    if let held { return held }
    // A file that is damaged, or of another version, is none.
    guard let build = Self.contents(path, limit: Self.longestBuild).flatMap({ try? KnownBuild(file: $0) }) else {
      return nil
    }
    read.withLock { read in
      read.removeAll { $0.path == path }
      if read.count >= Self.mostHeld { read.removeFirst() }
      read.append((path, file, build))
    }
    return build
  }

  /// Whether a build's tables may serve in the place of the memory's own.
  package func mayServe(_ build: KnownBuild, boot mark: MemoryDigest) -> Bool {
    if let boot = self.boot(mark), boot.build == build.digest { return true }
    return Self.files(in: approved, suffix: ".build").contains {
      self.build("\(approved)/\($0)")?.digest == build.digest
    }
  }

  /// A boot that was proven.
  package struct KnownBoot: Sendable {
    package var mark: MemoryDigest
    package var build: MemoryDigest
    package var release: String
    /// Where the kernel's banner lies.
    package var banner: PhysicalAddress
    package var boot: KnownBuild.Boot
  }

  /// All boots that were proven, the newest first.
  package func knownBoots() -> [KnownBoot] {
    Self.newestFirst(Self.files(in: boots, suffix: ""), in: boots).compactMap { MemoryDigest($0).flatMap(boot) }
  }

  /// Whether a boot was proven before.
  package func hasBoot(_ mark: MemoryDigest) -> Bool { access("\(boots)/\(mark)", F_OK) == 0 }

  private func boot(_ mark: MemoryDigest) -> KnownBoot? {
    guard let bytes = Self.contents("\(boots)/\(mark)", limit: 4096) else { return nil }
    var values: [Substring: Substring] = [:]
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      guard let equals = line.firstIndex(of: "=") else { continue }
      values[line[..<equals]] = line[line.index(after: equals)...]
    }
    func number(_ key: Substring) -> UInt64? { values[key].flatMap { UInt64($0, radix: 16) } }
    guard let build = values["build"].flatMap({ MemoryDigest(String($0)) }), let release = values["release"],
      let banner = number("banner"), let place = number("place"), let base = number("base"), let root = number("root"),
      let levels = number("levels"), (4...5).contains(levels), let slide = number("slide")
    else { return nil }
    return KnownBoot(
      mark: mark, build: build, release: String(release), banner: PhysicalAddress(banner),
      boot: .init(
        place: PhysicalAddress(place), physicalBase: Int64(bitPattern: base), root: PhysicalAddress(root),
        levels: Int(levels), slide: slide))
  }

  // MARK: Keeping

  /// Keeps a build, unless there are enough of its name and build ID.
  ///
  /// - Throws: ``BuildFolderError`` where it cannot be written.
  package func keep(_ build: KnownBuild) throws(BuildFolderError) {
    let name = "\(Self.fileName(build.release))-\(build.digest).build"
    // One that is damaged is written anew.
    guard self.build("\(path)/\(name)") == nil else { return }
    let same = builds(release: build.release, buildID: build.buildID.isEmpty ? nil : build.buildID)
    guard same.count < Self.mostOfOneBuild else { return }
    try Self.write(build.file, to: name, in: path)
    Self.trim(path, suffix: ".build", to: Self.mostBuilds)
  }

  /// Keeps the tables by which stacks of a build are unwound, unless they are kept already.
  ///
  /// - Throws: ``BuildFolderError`` where they cannot be written; what `read` throws.
  package func keepUnwindTables(
    of digest: MemoryDigest, release: String, _ read: () throws -> UnwindTables?
  ) throws {
    let name = "\(Self.fileName(release))-\(digest).unwind"
    // Only beside the build itself.
    guard access("\(path)/\(name)", F_OK) != 0,
      access("\(path)/\(Self.fileName(release))-\(digest).build", F_OK) == 0, let tables = try read()
    else { return }
    try Self.write(tables.file, to: name, in: path)
  }

  /// The tables for unwinding of the build of this digest.
  package func unwindTables(_ digest: MemoryDigest) -> UnwindTables? {
    for folder in [approved, path] {
      for name in Self.files(in: folder, suffix: "-\(digest).unwind") {
        if let bytes = Self.contents("\(folder)/\(name)", limit: Self.longestBuild),
          let tables = UnwindTables(file: bytes)
        {
          return tables
        }
      }
    }
    return nil
  }

  /// Notes that a kernel was proven to be a boot of a build.
  ///
  /// - Throws: ``BuildFolderError`` where it cannot be written.
  package func keepBoot(_ kernel: ProvenKernel, of build: MemoryDigest) throws(BuildFolderError) {
    let found = kernel.found
    guard let banner = found.symbols.address(of: "linux_banner").flatMap({ found.physicalAddress(ofImage: $0) }) else {
      return
    }
    try keep(
      KnownBoot(
        mark: BootIdentity(of: kernel).mark, build: build, release: found.release, banner: banner,
        boot: .init(
          place: found.coreInfoAddress, physicalBase: found.physicalBase, root: found.rootPageTable,
          levels: found.pagingLevels, slide: found.slide)))
  }

  private func keep(_ boot: KnownBoot) throws(BuildFolderError) {
    guard !hasBoot(boot.mark) else { return }
    // A release is one line.
    let release = boot.release.filter { !$0.isNewline }
    let text = """
      release=\(release)
      build=\(boot.build)
      banner=\(String(boot.banner.rawValue, radix: 16))
      place=\(String(boot.boot.place.rawValue, radix: 16))
      base=\(String(UInt64(bitPattern: boot.boot.physicalBase), radix: 16))
      root=\(String(boot.boot.root.rawValue, radix: 16))
      levels=\(boot.boot.levels)
      slide=\(String(boot.boot.slide, radix: 16))

      """
    try Self.write(Array(text.utf8), to: "\(boot.mark)", in: boots)
    Self.trim(boots, suffix: "", to: Self.mostBoots)
  }

  /// Keeps a build as one that an operator vouches for.
  func approve(_ build: KnownBuild) throws(BuildFolderError) {
    try Self.write(build.file, to: "\(Self.fileName(build.release))-\(build.digest).build", in: approved)
  }

  // MARK: Files

  /// The paths of the builds that are approved, or of those that are merely kept.
  func files(ofApproved isApproved: Bool) -> [String] {
    let folder = isApproved ? approved : path
    return Self.files(in: folder, suffix: ".build").map { "\(folder)/\($0)" }
  }

  /// A release as part of a file's name: it comes from the watched memory.
  private static func fileName(_ release: String) -> String {
    let text = release.utf8.prefix(64).map { byte -> Character in
      let character = Character(Unicode.Scalar(byte))
      return character.isASCII && (character.isLetter || character.isNumber || "._+-".contains(character))
        ? character : "_"
    }
    // No name that starts with a point is listed.
    return text.first == "." ? "_" + String(text.dropFirst()) : String(text)
  }

  private static func files(in folder: String, suffix: String) -> [String] {
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if !name.hasPrefix("."), name.hasSuffix(suffix) { names.append(name) }
    }
    return names.sorted()
  }

  private static func newestFirst(_ names: [String], in folder: String) -> [String] {
    names.map { name -> (name: String, time: Int) in
      var status = stat()
      return (name, stat("\(folder)/\(name)", &status) == 0 ? Int(status.st_mtim.tv_sec) : 0)
    }.sorted { ($0.time, $0.name) > ($1.time, $1.name) }.map(\.name)
  }

  /// Removes all files but the newest.
  private static func trim(_ folder: String, suffix: String, to most: Int) {
    let names = files(in: folder, suffix: suffix)
    guard names.count > most else { return }
    for name in newestFirst(names, in: folder).dropFirst(most) {
      unlink("\(folder)/\(name)")
      if suffix == ".build" { unlink("\(folder)/\(name.dropLast(suffix.count)).unwind") }
    }
  }

  private static func contents(_ path: String, limit: Int) -> [UInt8]? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size <= limit else { return nil }
    return [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
      count = 0
      while count < buffer.count {
        let done = Glibc.read(file, buffer.baseAddress.map { $0 + count }, buffer.count - count)
        guard done > 0 else { break }
        count += done
      }
    }
  }

  /// Writes a file whole or not at all: others may read it meanwhile.
  private static func write(_ bytes: [UInt8], to name: String, in folder: String) throws(BuildFolderError) {
    var part = ""
    for component in folder.split(separator: "/", omittingEmptySubsequences: false) {
      part += part.isEmpty && component.isEmpty ? "" : (part.isEmpty && !folder.hasPrefix("/") ? "" : "/") + component
      if !part.isEmpty { mkdir(part, 0o700) }
    }
    var template = Array("\(folder)/.new-XXXXXX".utf8CString)
    let file = mkstemp(&template)
    guard file >= 0 else { throw BuildFolderError(folder, .system(errno)) }
    let path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    var done = 0
    bytes.withUnsafeBytes { bytes in
      while done < bytes.count {
        let count = Glibc.write(file, bytes.baseAddress.map { $0 + done }, bytes.count - done)
        guard count > 0 else { break }
        done += count
      }
    }
    let code = errno
    close(file)
    guard done == bytes.count, rename(path, "\(folder)/\(name)") == 0 else {
      let code = done == bytes.count ? errno : code
      unlink(path)
      throw BuildFolderError(folder, .system(code))
    }
  }
}

/// What tells a file from what was at its path before.
private struct FileMark: Equatable {
  private let numbers: [Int]

  /// Nil where there is no file.
  init?(_ path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    numbers = [
      Int(bitPattern: UInt(status.st_dev)), Int(bitPattern: UInt(status.st_ino)), Int(status.st_size),
      status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec,
    ]
  }
}

/// Why a build could not be kept, or a kept one not be found.
public struct BuildFolderError: Error, CustomStringConvertible {
  enum Reason {
    /// A system call failed with this `errno`.
    case system(Int32)
    /// No digest, or several, begin so.
    case noBuild(String)
    case severalBuilds(String, [String])
  }

  public let path: String
  private let reason: Reason

  init(_ path: String, _ reason: Reason) { (self.path, self.reason) = (path, reason) }

  public var description: String {
    switch reason {
    case .system(let code):
      "\(path): \(String(cString: strerror(code))); builds are not kept there: give --known DIR, or --no-known"
    case .noBuild(let prefix): "\(path) has no build whose digest begins with '\(prefix)'; `grassctl builds` lists them"
    case .severalBuilds(let prefix, let digests):
      "several digests begin with '\(prefix)': \(digests.joined(separator: ", ")); give more of it"
    }
  }
}
