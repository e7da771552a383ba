public import LinuxKernel
import Memory
import StorageViews
import Synchronization

/// Files of the host's disks, as far as they are in its memory.
public enum HostFiles {
  /// The file at `path`, read when it is opened.
  ///
  /// What is not in memory, or not all of it, cannot be read; `orEmpty` says that it is then shown with nothing in it, for files that
  /// only make what others say prettier: names of users. Its bytes are kept for ten seconds: finding it takes a look at all that is
  /// cached, and programs that show users' names begin with it.
  public static func file(_ path: String, of kernel: Kernel, orEmpty: Bool = false) -> ShadowNode {
    let kept = Kept()
    return .file {
      do {
        return try kept.value { try bytes(path, of: kernel) }
      } catch  where orEmpty {
        return []
      }
    }
  }

  /// What was read last, or why nothing could be.
  private final class Kept: Sendable {
    private let last = Mutex<(bytes: Result<[UInt8], any Error>, read: ContinuousClock.Instant)?>(nil)

    /// Others who ask meanwhile wait for the same reading.
    func value(_ read: () throws -> [UInt8]) throws -> [UInt8] {
      try last.withLock { last in
        if let last, ContinuousClock.now - last.read < .seconds(10) { return try last.bytes.get() }
        let bytes = Result { try read() }
        last = (bytes, .now)
        return try bytes.get()
      }
    }
  }

  /// More than the files that are shown have.
  private static let most = 8 << 20

  private static func bytes(_ path: String, of kernel: Kernel) throws -> [UInt8] {
    let wanted = Array(path.utf8)
    let files = try kernel.cachedFiles().files.filter { !$0.name.isDeleted && $0.name.bytes == wanted }
    guard let file = files.first, files.count == 1, file.size <= most else {
      throw ShadowError.unreadable("\(path) is not in the host's memory")
    }
    var bytes = [UInt8](repeating: 0, count: Int(file.size))
    let contents = try kernel.contents(of: file) { offset, piece in
      let start = Int(clamping: offset)
      guard start < bytes.count else { return true }
      let count = min(piece.count, bytes.count - start)
      bytes.replaceSubrange(start..<start + count, with: piece.prefix(count))
      return true
    }
    guard contents.gaps.isEmpty, contents.faults.isEmpty else {
      throw ShadowError.unreadable("parts of \(path) are not in the host's memory")
    }
    return bytes
  }
}
