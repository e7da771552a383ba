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
    let bytes = try kernel.addressSpace.read(start, count: text.count)
    let looked = KernelText.looked(through: bytes, at: text, image: image, functions, places, most: Self.mostRemarks)
    // The digest is that of the bytes that were looked through, whatever the memory holds by now.
    if let seen, let given { seen.keep(looked, at: text.lowerBound, given: given, bytes: seen.digest(ofBytes: bytes)) }
    return looked
  }
}

extension KernelText {
  /// Those of `places` that lie in a text, as ascending offsets from its start.
  fileprivate static func offsets(of places: [VirtualAddress], in text: Range<UInt64>) -> [UInt32] {
    places.lazy.map(\.rawValue).filter { text.contains($0) }.map { UInt32($0 - text.lowerBound) }.sorted()
  }

  /// What of the text `bytes`, which lies at `text`, has to be explained.
  ///
  /// That is branches out of `image` that do not lead to `known`, and what is odd in `functions` and at tracers' places, both given
  /// as ascending offsets.
  fileprivate static func looked(
    through bytes: [UInt8], at text: Range<UInt64>, image: Range<UInt64>, known: Range<UInt64> = 0..<0,
    _ functions: [UInt32], _ offsets: [UInt32], most: Int
  ) -> KernelText {
    var answer = KernelText()
    answer.functions = functions.count
    var undecoded = 0
    var remarks = [grass_remark](repeating: grass_remark(), count: most)
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
    if count > most {
      answer.faults.append(
        MemoryFault(
          .virtual(VirtualAddress(text.lowerBound)),
          .inconsistent("\(count) things to be explained in one text of the kernel")))
    }
    for remark in remarks.prefix(min(count, most)) {
      if remark.kind == GRASS_REMARK_BRANCH.rawValue, known.contains(remark.target) { continue }
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
        let looked =
          text
          ?? .looked(
            through: bytes, at: item.text, image: item.text, known: kernel.textRange, starts, offsets,
            // Most instructions that lead anywhere have five bytes.
            most: min(max(entry.count / 5, 4096), 1 << 20))
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
