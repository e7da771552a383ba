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

  func read(_ kernel: Kernel, _ places: [VirtualAddress], _ seen: SeenTexts?) throws -> KernelText {
    let places = KernelText.offsets(of: places, in: text)
    let start = VirtualAddress(text.lowerBound)
    let given = seen?.digest(of: [text, image], functions: functions, places: places)
    if let seen, let given {
      let known = seen.text(at: text.lowerBound, given: given) {
        guard case .physical(let place) = kernel.addressSpace.location(of: start, count: text.count) else { return nil }
        return seen.digest(of: MemorySegment(start: place, count: UInt64(text.count)), in: kernel.memory)
      }
      if let known { return known }
    }
    var look = TextLook(at: text, image: image, functions, places, most: Self.mostRemarks)
    var digests: [MemoryDigest] = []
    // A piece at a time: a text has tens of MiB, and whoever watches many hosts looks through several at once.
    var done = 0
    while done < text.count {
      let bytes = try kernel.addressSpace.read(start + done, count: min(Self.pieceSize, text.count - done))
      // The digest is that of the bytes that were looked through, whatever the memory holds by now.
      if let seen { digests += seen.digests(ofPagesOf: bytes) }
      look.add(bytes)
      done += bytes.count
    }
    if let seen, let given { seen.keep(look.answer, at: text.lowerBound, given: given, bytes: seen.joined(digests)) }
    return look.answer
  }

  /// How much is read at once: whole pages.
  private static let pieceSize = 2 << 20
}

extension KernelText {
  /// Those of `places` that lie in a text, as ascending offsets from its start.
  fileprivate static func offsets(of places: [VirtualAddress], in text: Range<UInt64>) -> [UInt32] {
    places.lazy.map(\.rawValue).filter { text.contains($0) }.map { UInt32($0 - text.lowerBound) }.sorted()
  }
}

/// A text that is looked through as its bytes come.
struct TextLook {
  /// What has to be explained of what came so far.
  private(set) var answer = KernelText()
  private let text: Range<UInt64>
  private let image: Range<UInt64>
  private let known: Range<UInt64>
  private let functions: [UInt32]
  private let places: [UInt32]
  private let most: Int
  /// Bytes from `start` on, an offset in the text, which are those of functions that were not looked through.
  private var bytes: [UInt8] = []
  private var start = 0
  /// The first function and the first place that were not looked through.
  private var (function, place) = (0, 0)
  /// How many things there were to be explained.
  private var count = 0

  /// No instruction is longer.
  private static let longestInstruction = 16
  /// So many remarks at first: more than most pieces have.
  private static let usualRemarks = 2048

  /// - Parameters:
  ///   - text: where the text lies.
  ///   - image: where branches may lead.
  ///   - known: where they may lead, too.
  ///   - functions: where functions begin, as ascending offsets from its start.
  ///   - places: where places of tracers are, in the same way.
  ///   - most: how many remarks are kept.
  init(
    at text: Range<UInt64>, image: Range<UInt64>, known: Range<UInt64> = 0..<0, _ functions: [UInt32],
    _ places: [UInt32], most: Int
  ) {
    (self.text, self.image, self.known, self.most) = (text, image, known, most)
    (self.functions, self.places) = (functions, places)
    answer.functions = functions.count
  }

  /// Takes the bytes that come next, and looks through the functions of which all is there.
  mutating func add(_ more: [UInt8]) {
    bytes += more
    let end = start + bytes.count
    var last = functions.count
    var lastEnd = end
    if end < text.count {
      // The function behind the last one is where that ends, and what its last instruction may reach into is there.
      var (low, high) = (function, functions.count)
      while low < high {
        let middle = (low + high) / 2
        if Int(functions[middle]) + Self.longestInstruction <= end { low = middle + 1 } else { high = middle }
      }
      last = low - 1
      guard last > function else { return }
      lastEnd = Int(functions[last])
    }
    if function < last { look(upTo: last, lastEnd) }
    bytes.removeFirst(min(lastEnd - start, bytes.count))
    (start, function) = (lastEnd, last)
  }

  /// Looks through the functions before that of a number, of which the last ends there.
  private mutating func look(upTo last: Int, _ end: Int) {
    let base = Int(functions[function])
    let starts = functions[function..<last].map { $0 - UInt32(base) }
    let first = place
    while place < places.count, Int(places[place]) < end { place += 1 }
    let places = places[first..<place].filter { $0 >= base }.map { $0 - UInt32(base) }
    var remarks: [grass_remark] = []
    var (found, undecoded) = (Self.usualRemarks, 0)
    repeat {
      remarks = Array(repeating: grass_remark(), count: min(found, max(most - answer.remarks.count, 0)))
      found = bytes.withUnsafeBufferPointer { bytes in
        starts.withUnsafeBufferPointer { functions in
          places.withUnsafeBufferPointer { places in
            // All pointers are to what this call holds, and end with it.
            var given = grass_text(
              bytes: bytes.baseAddress.map { $0 + (base - start) }, count: bytes.count - (base - start),
              end: end - base, address: text.lowerBound + UInt64(base), image_start: image.lowerBound,
              image_end: image.upperBound, functions: functions.baseAddress, function_count: functions.count,
              places: places.baseAddress, place_count: places.count)
            return remarks.withUnsafeMutableBufferPointer { remarks in
              grass_look_through(&given, remarks.baseAddress, remarks.count, &undecoded)
            }
          }
        }
      }
    } while found > remarks.count && remarks.count < most - answer.remarks.count
    answer.undecoded += undecoded
    count += found
    if count > most {
      answer.faults = [
        MemoryFault(
          .virtual(VirtualAddress(text.lowerBound)),
          .inconsistent("\(count) things to be explained in one text of the kernel"))
      ]
    }
    for remark in remarks.prefix(min(found, remarks.count)) {
      if remark.kind == GRASS_REMARK_BRANCH.rawValue, known.contains(remark.target) { continue }
      let kind: TextRemark.Kind
      switch remark.kind {
      case GRASS_REMARK_BRANCH.rawValue: kind = .branch(to: VirtualAddress(remark.target))
      case GRASS_REMARK_BREAKPOINT.rawValue: kind = .breakpoint
      case GRASS_REMARK_PLACE.rawValue: kind = .place(calls: remark.target == 0 ? nil : VirtualAddress(remark.target))
      default: kind = .landing
      }
      let at = base - start + Int(remark.offset)
      answer.remarks.append(
        TextRemark(
          kind: kind, address: VirtualAddress(text.lowerBound) + (base + Int(remark.offset)),
          function: VirtualAddress(text.lowerBound) + (base + Int(remark.function)),
          bytes: Array(bytes[at..<min(at + 5, bytes.count)])))
    }
  }
}

/// The text of a module of the list, looked through.
struct ModuleText: Sendable {
  var module: KernelModule
  var text: KernelText
  /// The names of its functions, by where they begin.
  var names: [VirtualAddress: String]
}

/// The texts of modules, and what could not be read of them.
struct ModuleTextTable: Faulted {
  var modules: [ModuleText] = []
  var faults: [MemoryFault] = []

  /// More text than one module has, and than all together have: 64 MiB.
  static let most = 1 << 26
}

extension Look {
  /// The texts of the modules of the list that are up, each looked through on its own.
  ///
  /// Cost: a read of all their text, some MiB, and of their symbols.
  func moduleTexts() throws(KernelError) -> ModuleTextTable {
    let places = (try? tracedFunctions())?.places.map(\.address) ?? []
    let listed = try modules()
    let symbols = try once("symbols") { kernel throws(KernelError) in try kernel.symbolMap() }
    return try once("module texts") { [seen] kernel throws(KernelError) in
      var table = ModuleTextTable(faults: listed.faults + symbols.faults)
      let functions = Dictionary(grouping: symbols.ofModules.lazy.filter { $0.type == "t" || $0.type == "T" }) {
        $0.module ?? ""
      }
      var batch = ReadBatch<VirtualAddress>()
      var total = 0
      var texts: [(module: KernelModule, text: Range<UInt64>)] = []
      for module in listed.modules where module.state == .live {
        let (end, overflow) = module.text.rawValue.addingReportingOverflow(module.textSize)
        guard !overflow, module.textSize > 0, module.textSize <= ModuleTextTable.most - total else { continue }
        total += Int(module.textSize)
        batch.add(module.text, count: Int(module.textSize))
        texts.append((module, module.text.rawValue..<end))
      }
      kernel.addressSpace.read(&batch)
      for (index, item) in texts.enumerated() {
        if let fault = batch.faults[index] {
          table.faults.append(fault)
          continue
        }
        let entry = batch.entries[index]
        var names: [VirtualAddress: String] = [:]
        for place in functions[item.module.name.printable] ?? [] where item.text.contains(place.address.rawValue) {
          names[place.address] = place.name
        }
        let starts = names.keys.map { UInt32($0.rawValue - item.text.lowerBound) }.sorted()
        guard !starts.isEmpty else { continue }
        let offsets = KernelText.offsets(of: places, in: item.text)
        let bytes = Array(batch.bytes[entry.offset..<entry.offset + entry.count])
        let given = seen?.digest(of: [item.text, kernel.textRange], functions: starts, places: offsets)
        let digest = seen?.digest(ofBytes: bytes)
        var text: KernelText?
        if let seen, let given { text = seen.text(at: item.text.lowerBound, given: given) { digest } }
        let looked: KernelText
        if let text {
          looked = text
        } else {
          var look = TextLook(
            at: item.text, image: item.text, known: kernel.textRange, starts, offsets,
            // Most instructions that lead anywhere have five bytes.
            most: min(max(entry.count / 5, 4096), 1 << 20))
          look.add(bytes)
          looked = look.answer
        }
        if text == nil, let seen, let given, let digest {
          seen.keep(looked, at: item.text.lowerBound, given: given, bytes: digest)
        }
        table.modules.append(ModuleText(module: item.module, text: looked, names: names))
      }
      return table
    }
  }
}

extension Look {
  /// The kernel's text, looked through from its first function to its last.
  ///
  /// Cost: a read of the text, of some 20 MiB; where it was looked through before and did not change, of digests of its pages.
  public func kernelText() throws(KernelError) -> KernelText {
    let places = (try? tracedFunctions())?.places.map(\.address) ?? []
    return try once("kernel text") { [seen] kernel throws(KernelError) in
      let reader = try kernel.reader(KernelTextReader.self)
      return try KernelError.reading(KernelTextReader.subject) { try reader.read(kernel, places, seen) }
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
