import Binding
import KernelInfo
public import LinuxKernel
public import Memory

extension Kernel {
  /// How long a string may be: longer ones are cut.
  private static let longestString = 4096

  /// Calls `body` with every run of printable ASCII characters and tabs, of `shortest` bytes or more, until it returns
  /// false. Runs are cut after 4096 bytes.
  ///
  /// - Returns: why parts of the memory could not be read. Cost: all of the memory is read once.
  public func forEachString(
    shortest: Int, _ body: (_ address: PhysicalAddress, _ text: [UInt8]) -> Bool
  ) -> [MemoryFault] {
    var faults: [MemoryFault] = []
    // What ends with the piece before, and may go on in the next one.
    var open: [UInt8] = []
    var end = PhysicalAddress(0)
    func report(_ text: [UInt8], endingAt end: PhysicalAddress) -> Bool {
      var rest = text[...]
      while rest.count >= shortest {
        let part = rest.prefix(Self.longestString)
        if !body(end - rest.count, Array(part)) { return false }
        rest = rest.dropFirst(part.count)
      }
      return true
    }
    MemoryScan(memory: memory, overlap: 0).forEachPiece { start, bytes, count in
      if start != end {
        if !report(open, endingAt: end) { return false }
        open = []
      }
      end = start + count
      return bytes.withUnsafeBytes { bytes in
        var index = 0
        while index < count {
          let stop = bytes.endOfText(from: index, before: count)
          if index == 0 || stop == count {
            open += bytes[index..<stop]
            // Text without end must not be kept without end.
            if stop < count || open.count > Self.longestString {
              if !report(open, endingAt: start + stop) { return false }
              open = []
            }
          } else if stop - index >= shortest, !report(Array(bytes[index..<stop]), endingAt: start + stop) {
            return false
          }
          index = bytes.startOfText(from: stop, before: count)
        }
        return true
      }
    } failed: {
      faults.append($0)
    }
    _ = report(open, endingAt: end)
    return faults
  }

  /// The same for the runs that contain `wanted`, with up to 4096 bytes before it and after it.
  ///
  /// Cost: all of the memory is read once, as fast as ``search(_:limit:)`` does, and each run once more.
  public func forEachString(
    shortest: Int, containing wanted: [UInt8], _ body: (_ address: PhysicalAddress, _ text: [UInt8]) -> Bool
  ) -> [MemoryFault] {
    var faults: [MemoryFault] = []
    let literal = LiteralSearch(wanted)
    var end = PhysicalAddress(0)
    MemoryScan(memory: memory, overlap: max(0, wanted.count - 1)).forEachPiece { start, bytes, count in
      var offset = 0
      while let place = literal.first(in: bytes, from: offset, before: count) {
        offset = place + 1
        let hit = start + place
        // A run that holds the text twice is one run.
        if hit < end { continue }
        let (before, after) = text(around: hit)
        end = hit + after.count
        if after.count >= wanted.count, before.count + after.count >= shortest,
          !body(hit - before.count, before + after)
        {
          return false
        }
      }
      return true
    } failed: {
      faults.append($0)
    }
    return faults
  }

  /// The text that ends before `address`, and the text from there on.
  private func text(around address: PhysicalAddress) -> (before: [UInt8], after: [UInt8]) {
    guard let segment = memory.segments.first(where: { $0.contains(address, count: 1) }) else { return ([], []) }
    let offset = address.rawValue - segment.start.rawValue
    var batch = ReadBatch<PhysicalAddress>()
    let reach = Int(min(offset, UInt64(Self.longestString)))
    batch.add(address - reach, count: reach)
    batch.add(address, count: Int(min(segment.count - offset, UInt64(Self.longestString))))
    memory.read(&batch)
    let before = (try? batch.reader(0).copy()) ?? []
    let after = (try? batch.reader(1).copy()) ?? []
    return (Array(before.reversed().prefix(while: isText).reversed()), Array(after.prefix(while: isText)))
  }
}

@inline(__always) private func isText(_ byte: UInt8) -> Bool { byte >= 0x20 && byte < 0x7f || byte == 9 }

extension UnsafeRawBufferPointer {
  fileprivate func endOfText(from start: Int, before end: Int) -> Int {
    var index = start
    while index < end, isText(self[index]) { index += 1 }
    return index
  }

  fileprivate func startOfText(from start: Int, before end: Int) -> Int {
    var index = start
    while index < end, !isText(self[index]) {
      // Most of a memory is zeroes.
      if index + 8 <= end, loadUnaligned(fromByteOffset: index, as: UInt64.self) == 0 { index += 8 } else { index += 1 }
    }
    return index
  }
}
