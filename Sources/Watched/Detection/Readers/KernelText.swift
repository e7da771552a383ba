import CCode
import KernelInfo
public import KernelViews
import LinuxKernel
public import Memory

/// What of the kernel's text is not as compilers leave it, and so has to be explained by one of the kernel's tables.
public struct TextRemark: Hashable, Sendable {
  public enum Kind: Hashable, Sendable {
    /// A call, jump or branch out of the image.
    case branch(to: VirtualAddress)
    /// An int3 that the code before it runs into.
    case breakpoint
    /// A place for tracers that is not the nop of five bytes: a call of something, or no call.
    case place(calls: VirtualAddress?)
    /// No landing place of indirect branches where a function begins.
    case landing
  }

  public var kind: Kind
  public var address: VirtualAddress
  /// Where the function begins.
  public var function: VirtualAddress
  /// The five bytes there.
  public var bytes: [UInt8]
}

/// The kernel's text, looked through.
public struct KernelText: Faulted {
  public internal(set) var remarks: [TextRemark] = []
  /// How many functions there are, and how many of them could not be decoded to their end.
  public internal(set) var functions = 0
  public internal(set) var undecoded = 0
  public internal(set) var faults: [MemoryFault] = []
}

private struct KernelTextReader: KernelReader {
  static let subject = "the kernel's text"

  let text: Range<UInt64>
  let image: Range<UInt64>
  /// Where functions begin, as offsets from the text's start.
  let functions: [UInt32]

  /// More than any kernel has.
  private static let mostText: UInt64 = 1 << 27
  /// More than traced kernels have; where there are more, that is said.
  private static let mostRemarks = 1 << 17

  init(kernel: Kernel) throws {
    let start = try kernel.symbol("_stext", for: Self.self).rawValue
    let end = try kernel.symbol("_etext", for: Self.self).rawValue
    guard start < end, end - start < Self.mostText else {
      throw KernelError(Self.subject, .inconsistent("\(end &- start) bytes long"))
    }
    text = start..<end
    let range = kernel.found.imageRange
    image = min(range.lowerBound.rawValue, start)..<max(range.upperBound.rawValue, end)
    var starts: [UInt32] = []
    for address in kernel.symbols.addresses where text.contains(address) {
      let offset = UInt32(address - start)
      if starts.last != offset { starts.append(offset) }
    }
    functions = starts
  }

  func read(_ kernel: Kernel, _ places: [VirtualAddress]) throws -> KernelText {
    let bytes = try kernel.addressSpace.read(VirtualAddress(text.lowerBound), count: text.count)
    let offsets = places.lazy.map(\.rawValue).filter { text.contains($0) }.map { UInt32($0 - text.lowerBound) }.sorted()
    var answer = KernelText()
    answer.functions = functions.count
    var undecoded = 0
    var remarks = [grass_remark](repeating: grass_remark(), count: Self.mostRemarks)
    let count = bytes.withUnsafeBufferPointer { bytes in
      functions.withUnsafeBufferPointer { functions in
        offsets.withUnsafeBufferPointer { places in
          // All pointers are to what this call holds, and end with it.
          var given = grass_text(
            bytes: bytes.baseAddress, count: bytes.count, address: text.lowerBound, image_start: image.lowerBound,
            image_end: image.upperBound, functions: functions.baseAddress, function_count: functions.count,
            places: places.baseAddress, place_count: places.count)
          return remarks.withUnsafeMutableBufferPointer { remarks in
            grass_look_through(&given, remarks.baseAddress, remarks.count, &undecoded)
          }
        }
      }
    }
    answer.undecoded = undecoded
    if count > Self.mostRemarks {
      answer.faults.append(
        MemoryFault(
          .virtual(VirtualAddress(text.lowerBound)),
          .inconsistent("\(count) things to be explained in the kernel's text")))
    }
    for remark in remarks.prefix(min(count, Self.mostRemarks)) {
      let place = Int(remark.offset)
      let kind: TextRemark.Kind
      switch remark.kind {
      case GRASS_REMARK_BRANCH.rawValue: kind = .branch(to: VirtualAddress(remark.target))
      case GRASS_REMARK_BREAKPOINT.rawValue: kind = .breakpoint
      case GRASS_REMARK_PLACE.rawValue: kind = .place(calls: remark.target == 0 ? nil : VirtualAddress(remark.target))
      default: kind = .landing
      }
      answer.remarks.append(
        TextRemark(
          kind: kind, address: VirtualAddress(text.lowerBound) + place,
          function: VirtualAddress(text.lowerBound) + Int(remark.function),
          bytes: Array(bytes[place..<min(place + 5, bytes.count)])))
    }
    return answer
  }
}

extension Look {
  /// The kernel's text, looked through from its first function to its last.
  ///
  /// Cost: a read of the text, of some 20 MiB.
  public func kernelText() throws(KernelError) -> KernelText {
    let places = (try? tracedFunctions())?.places.map(\.address) ?? []
    return try once("kernel text") { kernel throws(KernelError) in
      let reader = try kernel.reader(KernelTextReader.self)
      return try KernelError.reading(KernelTextReader.subject) { try reader.read(kernel, places) }
    }
  }
}

/// Finds words in bytes, in C: whole sections are looked through.
enum WordSearch {
  /// Offsets, at multiples of eight, of words that lie in one of `ranges`, which are ascending and do not overlap.
  ///
  /// - Returns: `most` of them at most.
  static func offsets(in bytes: [UInt8], of ranges: [Range<UInt64>], most: Int) -> [Int] {
    let pairs = ranges.flatMap { [$0.lowerBound, $0.upperBound] }
    var offsets = [UInt32](repeating: 0, count: most)
    let count = bytes.withUnsafeBufferPointer { bytes in
      pairs.withUnsafeBufferPointer { pairs in
        offsets.withUnsafeMutableBufferPointer { offsets in
          grass_find_words(
            bytes.baseAddress, bytes.count, pairs.baseAddress, ranges.count, offsets.baseAddress, offsets.count)
        }
      }
    }
    return offsets.prefix(min(count, most)).map { Int($0) }
  }
}
