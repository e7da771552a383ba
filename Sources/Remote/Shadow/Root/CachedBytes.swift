import LinuxKernel
import Memory
import StorageViews
import Synchronization

/// The contents of a file of the host, out of its page cache: what a read asks for, with what lies around it.
///
/// A file may be larger than what is wise to hold. So windows of it are read, of which the last is kept: each is of one moment, and so is
/// all of a file that is no larger.
public final class CachedBytes: Sendable {
  private let kernel: Kernel
  private let inode: VirtualAddress
  private let number: UInt64
  private let kept = Mutex<Window?>(nil)

  private struct Window {
    var start: UInt64
    var bytes: [UInt8]
    /// What of it is missing, in bytes of the file.
    var gaps: [(range: Range<UInt64>, why: String)]
  }

  /// Bytes of a window.
  static let windowSize: UInt64 = 4 << 20

  init(_ kernel: Kernel, inode: VirtualAddress, number: UInt64) {
    self.kernel = kernel
    self.inode = inode
    self.number = number
  }

  /// At most `count` bytes from `offset` on: up to the window's end, the file's, or the first byte that is not in memory.
  ///
  /// - Throws: ``ShadowError`` where the first byte is not in memory.
  func read(from offset: UInt64, count: Int) throws -> [UInt8] {
    let start = offset / Self.windowSize * Self.windowSize
    let window = try kept.withLock { kept in
      if let kept, kept.start == start { return kept }
      let window = try read(window: start)
      kept = window
      return window
    }
    let end = min(start + UInt64(window.bytes.count), offset.addingReportingOverflow(UInt64(count)).partialValue)
    guard offset < end else { return [] }
    var last = end
    for gap in window.gaps where gap.range.upperBound > offset && gap.range.lowerBound < last {
      guard gap.range.lowerBound > offset else { throw ShadowError.unreadable(gap.why) }
      last = gap.range.lowerBound
    }
    return Array(window.bytes[Int(offset - start)..<Int(last - start)])
  }

  private func read(window start: UInt64) throws -> Window {
    var bytes = [UInt8](repeating: 0, count: Int(Self.windowSize))
    let contents = try kernel.contents(
      ofInode: inode, number: number, pages: start / 4096..<(start + Self.windowSize) / 4096
    ) { offset, piece in
      guard offset >= start, offset - start < Self.windowSize else { return true }
      let place = Int(offset - start)
      bytes.replaceSubrange(place..<min(bytes.count, place + piece.count), with: piece.prefix(bytes.count - place))
      return true
    }
    let size = contents.size > start ? min(Self.windowSize, contents.size - start) : 0
    return Window(
      start: start, bytes: Array(bytes.prefix(Int(size))),
      gaps: contents.gaps.map {
        ($0.range, "bytes \($0.range.lowerBound)-\($0.range.upperBound) of the file are \($0.reason.rawValue)")
      })
  }

  /// What of the file is not in memory, as lines: first byte, last byte, why.
  func missing() throws -> [UInt8] {
    let contents = try kernel.contents(ofInode: inode, number: number, nil)
    var text = ProcText()
    for gap in contents.gaps {
      text.line("\(gap.range.lowerBound)-\(gap.range.upperBound - 1) \(gap.reason.rawValue)")
      // The largest value of an extended attribute has 64 KiB.
      guard text.bytes.count < 60_000 else {
        text.line("and more")
        break
      }
    }
    return text.bytes
  }
}
