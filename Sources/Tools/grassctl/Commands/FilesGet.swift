import ArgumentParser
import Glibc
import KernelViews

struct FilesGet: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "get", abstract: "Writes what is in memory of a file's contents to a file here.",
    discussion: """
      Parts that are not in memory become holes, are named on standard error, and the exit status is then 1. Where several \
      files have the path (one was removed and made again), --inode says which.
      """)

  @Argument(help: "The file's path, as files lists it; one that was removed with or without its (deleted).")
  var path: String?

  @Option(help: "Its inode number.")
  var inode: UInt64?

  @Option(help: ArgumentHelp("Its file system's device.", valueName: "major:minor"))
  var device: String?

  @Option(name: .shortAndLong, help: ArgumentHelp("Where to write it.", valueName: "file"))
  var output: String

  @OptionGroup var source: SourceOptions

  func validate() throws {
    if path == nil, inode == nil { throw ValidationError("Give the file's path, or --inode and --device.") }
  }

  func run() throws {
    let kernel = try source.openKernel()
    let table = try reporting { try kernel.cachedFiles() }
    let file = try chosen(from: table.files)

    let descriptor = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw failure() }
    defer { close(descriptor) }
    var isWritten = true
    let contents = try reporting {
      try kernel.contents(of: file) { offset, bytes in
        isWritten = write(bytes, at: offset, to: descriptor)
        return isWritten
      }
    }
    // What follows the last page that is there is a hole, too.
    guard isWritten, ftruncate(descriptor, Int(clamping: contents.size)) == 0 else { throw failure() }
    for gap in contents.gaps.prefix(8) {
      writeNote("bytes \(gap.range.lowerBound) to \(gap.range.upperBound - 1) are a hole: \(gap.reason.rawValue)")
    }
    if contents.gaps.count > 8 { writeNote("and \(contents.gaps.count - 8) more holes") }
    let name = file.name.display.printable
    writeNote("\(contents.count) of \(contents.size) bytes of \(name.isEmpty ? "inode \(file.inode)" : name)")
    try reportFaults(contents.faults)
    if !contents.gaps.isEmpty { throw ExitStatus.partial }
  }

  private func chosen(from files: [CachedFile]) throws -> CachedFile {
    let wanted = path.map { Array($0.utf8) }
    var found = files.filter { file in
      (wanted == nil || file.name.bytes == wanted || file.name.display == wanted)
        && (inode == nil || file.inode == inode)
        && (device == nil || "\(file.major):\(file.minor)" == device)
    }
    // A file that has its name comes before one that lost it.
    if found.count > 1, found.filter({ !$0.name.isDeleted }).count == 1 { found.removeAll { $0.name.isDeleted } }
    guard found.count <= 1 else {
      writeNote("\(found.count) files fit; say which:")
      for file in found.prefix(16) {
        writeNote("  --inode \(file.inode) --device \(file.major):\(file.minor)  \(file.name.display.printable)")
      }
      throw ExitStatus.unreadable
    }
    guard let file = found.first else {
      writeNote("no page of such a file is in memory; grassctl files lists those of which some are")
      throw ExitStatus.unreadable
    }
    return file
  }

  private func failure() -> any Error {
    writeNote("cannot write \(output): \(String(cString: strerror(errno)))")
    return ExitStatus.partial
  }

  private func write(_ bytes: ArraySlice<UInt8>, at offset: UInt64, to descriptor: CInt) -> Bool {
    bytes.withUnsafeBytes { buffer in
      var done = 0
      while done < buffer.count {
        let rest = UnsafeRawBufferPointer(rebasing: buffer[done...])
        let count = pwrite(descriptor, rest.baseAddress, rest.count, Int(clamping: offset) + done)
        if count < 0, errno == EINTR { continue }
        if count <= 0 { return false }
        done += count
      }
      return true
    }
  }
}
