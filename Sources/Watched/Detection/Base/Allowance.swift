import Binding
import CCode
import KernelInfo
public import KernelViews
public import Memory

/// What its owner knows to be right, so that a finding about it is not worth a look, until a day.
///
/// It names things by what an intruder cannot give to something else at will: an executable by its inode and its build id together, a
/// module by its build id and a digest of its text together, a BPF program by the tag of its instructions. Never by a name.
public struct Allowance: Sendable, Codable, Equatable {
  /// The only detector whose findings it is about; nil for all of attacks and changes.
  public var detector: String?
  /// The device's numbers, 8:1, and the inode, of an executable; with ``buildID``.
  public var device: String?
  public var inode: UInt64?
  /// In hexadecimal digits.
  public var buildID: String?
  /// With ``moduleTextDigest``.
  public var moduleBuildID: String?
  /// What ``Look/textDigest(ofModule:)`` gives.
  public var moduleTextDigest: String?
  public var programTag: String?
  /// The last day on which it holds: 2027-01-31.
  public var expires: String
  /// Why, for people.
  public var reason: String?

  public init(
    detector: String? = nil, device: String? = nil, inode: UInt64? = nil, buildID: String? = nil,
    moduleBuildID: String? = nil, moduleTextDigest: String? = nil, programTag: String? = nil, expires: String,
    reason: String? = nil
  ) {
    self.detector = detector
    self.device = device
    self.inode = inode
    self.buildID = buildID
    self.moduleBuildID = moduleBuildID
    self.moduleTextDigest = moduleTextDigest
    self.programTag = programTag
    self.expires = expires
    self.reason = reason
  }

  /// Why it cannot be used; nil where it can.
  public var problem: String? {
    let digits = expires.split(separator: "-", omittingEmptySubsequences: false)
    guard digits.map(\.count) == [4, 2, 2], digits.allSatisfy({ $0.allSatisfy(\.isNumber) }) else {
      return "it has to say when it expires, as 2027-01-31 does"
    }
    let kinds = [
      inode != nil && device != nil && buildID != nil, moduleBuildID != nil && moduleTextDigest != nil,
      programTag != nil,
    ]
    guard kinds.filter({ $0 }).count == 1 else {
      return
        "it has to name one thing: device, inode and buildID of an executable, or moduleBuildID and moduleTextDigest, or "
        + "programTag"
    }
    return nil
  }

  /// Whether a finding is only about what this allows on the day `today`, which is written as ``expires`` is.
  ///
  /// Faults of the host are never allowed.
  ///
  /// - Throws: ``KernelError`` where what the finding is about cannot be read any more.
  public func covers(_ finding: Finding, in look: Look, today: String) throws(KernelError) -> Bool {
    guard problem == nil, today <= expires, finding.kind != .fault, detector ?? finding.detector == finding.detector
    else { return false }
    for subject in finding.subjects {
      switch subject {
      case .task(let tid, let start, _):
        guard let buildID, let process = try look.processes().processes.first(where: { $0.task.tid == tid }),
          process.task.startTime == start, let program = process.program, program.inode == inode,
          "\(program.device >> 20):\(program.device & 0xfffff)" == device,
          try look.buildID(of: program) == buildID.lowercased()
        else { return false }
      case .module(let address, _):
        guard let moduleBuildID, let moduleTextDigest,
          try look.buildID(ofModule: address) == moduleBuildID.lowercased(),
          try look.textDigest(ofModule: address) == moduleTextDigest.lowercased()
        else { return false }
      case .program(let id, _):
        guard let programTag, let program = try look.bpf().programs.first(where: { $0.id == id }),
          Text.hexadecimal(program.tag) == programTag.lowercased()
        else { return false }
      default: return false
      }
    }
    return !finding.subjects.isEmpty
  }
}

/// Reads the build ids of executables from the first page of each, where the kernel still has it.
private struct BuildIDReader: KernelReader {
  static let subject = "the build ids"

  struct Inode: KernelShape {
    static let type = "inode"
    let head = Field<VirtualAddress>("i_data.i_pages.xa_head")
  }

  let inode: Bound<Inode>
  let tree: XArray
  let map: PageMap
  let module: FieldLayout?

  init(kernel: Kernel) throws {
    inode = try Bound(kernel.types)
    tree = try XArray(types: kernel.types)
    map = try kernel.reader(PageMap.self)
    module = try? kernel.types.structure("module").field("build_id")
  }

  func read(_ address: VirtualAddress, _ kernel: Kernel) throws -> [UInt8]? {
    let space = kernel.addressSpace
    let pages = tree.values(head: try space.read(inode, at: [address])[0].head, in: space, limit: 1 << 20)
    guard let first = zip(pages.indices, pages.values).first(where: { $0.0 == 0 })?.1,
      let place = map.physicalAddress(ofPage: first, start: try map.start(in: space))
    else { return nil }
    var batch = ReadBatch<PhysicalAddress>()
    batch.add(place, count: 4096)
    space.memory.read(&batch)
    return try Self.buildID(in: try batch.reader(0))
  }

  /// The note that says it (elf(5): NT_GNU_BUILD_ID is 3), of a 64-bit file of which the first page is at hand.
  private static func buildID(in file: ByteReader) throws(MemoryFault) -> [UInt8]? {
    guard try file.u32(0) == 0x464c_457f, try file.load(4, as: UInt8.self) == 2 else { return nil }
    let (start, size) = (Int(clamping: try file.u64(32)), Int(try file.load(54, as: UInt16.self)))
    for index in 0..<min(Int(try file.load(56, as: UInt16.self)), 64) {
      let header = start &+ index &* size
      // PT_NOTE is 4.
      guard header >= 0, header <= file.count - 56, try file.u32(header) == 4 else { continue }
      var note = Int(clamping: try file.u64(header + 8))
      let end = min(note.addingReportingOverflow(Int(clamping: try file.u64(header + 32))).partialValue, file.count)
      while note >= 0, note <= end - 12 {
        let (name, content) = (Int(try file.u32(note)), Int(try file.u32(note + 4)))
        let kind = try file.u32(note + 8)
        let place = note + 12 + (name + 3) / 4 * 4
        guard content <= 64, place + content <= end else { break }
        if kind == 3, name == 4, try file.u32(note + 12) == 0x0055_4e47 {
          return try (0..<content).map { (index) throws(MemoryFault) in try file.load(place + index, as: UInt8.self) }
        }
        note = place + (content + 3) / 4 * 4
      }
    }
    return nil
  }
}

extension Look {
  /// The build id of an executable, in hexadecimal digits; nil where it has none, or its first page is not in memory.
  public func buildID(of program: ProcessFile) throws(KernelError) -> String? {
    let kernel = kernel
    let reader = try kernel.reader(BuildIDReader.self)
    return try KernelError.reading(kernel.subject(of: BuildIDReader.self)) {
      try reader.read(program.inodeAddress, kernel).map { Text.hexadecimal($0) }
    }
  }

  /// A digest of the code of a module of the list, in hexadecimal digits, the same in every boot; nil where it has none or cannot be
  /// read.
  ///
  /// A build id alone anybody can copy. Of each instruction its length and its first two bytes count, of those of five bytes and
  /// more; of shorter ones all bytes. The rest is where loading, tracing and jump labels write, such as addresses.
  ///
  /// Cost: a read of the text, 16 MiB of it at most.
  public func textDigest(ofModule address: VirtualAddress) throws(KernelError) -> String? {
    guard let module = try modules().modules.first(where: { $0.address == address }), module.textSize > 0 else {
      return nil
    }
    let kernel = kernel
    let count = Int(clamping: min(module.textSize, 16 << 20))
    guard let code = try? kernel.addressSpace.read(module.text, count: count) else { return nil }
    return Self.digest(ofCode: code)
  }

  /// The digest of code that ``textDigest(ofModule:)`` gives: FNV-1a of 64 bits, twice.
  static func digest(ofCode code: [UInt8]) -> String {
    var hashes: (UInt64, UInt64) = (0xcbf2_9ce4_8422_2325, 0x8422_2325_cbf2_9ce4)
    func add(_ byte: UInt8) {
      hashes.0 = (hashes.0 ^ UInt64(byte)) &* 0x100_0000_01b3
      hashes.1 = (hashes.1 ^ UInt64(byte)) &* 0x100_0000_01b5 &+ 1
    }
    code.withUnsafeBufferPointer { bytes in
      guard let start = bytes.baseAddress else { return }
      var at = 0
      while at < bytes.count {
        var instruction = grass_instruction()
        let length = Int(grass_decode(start + at, bytes.count - at, &instruction))
        guard length > 0 else {
          add(bytes[at])
          at += 1
          continue
        }
        add(UInt8(truncatingIfNeeded: length))
        let (first, second) = (bytes[at], length > 1 ? bytes[at + 1] : 0)
        // Tracers' places and jump labels: a call or a jump, or the nop of that length.
        let isPatched =
          length == 5
          ? first == 0xe8 || first == 0xe9 || (first == 0x0f && second == 0x1f)
          : length == 2 && (first == 0xeb || (first == 0x66 && second == 0x90))
        if !isPatched {
          for byte in bytes[at..<at + (length < 5 ? length : 2)] { add(byte) }
        }
        at += length
      }
    }
    func digits(_ value: UInt64) -> String {
      let text = String(value, radix: 16)
      return String(repeating: "0", count: 16 - text.count) + text
    }
    return digits(hashes.0) + digits(hashes.1)
  }

  /// The build id of a module; nil where the kernel keeps none (CONFIG_STACKTRACE_BUILD_ID).
  public func buildID(ofModule address: VirtualAddress) throws(KernelError) -> String? {
    let kernel = kernel
    guard let field = try kernel.reader(BuildIDReader.self).module else { return nil }
    return try KernelError.reading(kernel.subject(of: BuildIDReader.self)) {
      Text.hexadecimal(try kernel.addressSpace.read(address + field.offset, count: min(field.size, 20)))
    }
  }
}
