import Binding
import KernelInfo
public import LinuxKernel
import Memory
import Paging

/// Reads what concerns the host as a whole.
struct HostReader: KernelReader {
  static let subject = "the host state"

  private struct Names: KernelShape {
    static let type = "uts_namespace"
    let system = Field<[UInt8]>("name.sysname")
    let node = Field<[UInt8]>("name.nodename")
    let release = Field<[UInt8]>("name.release")
    let version = Field<[UInt8]>("name.version")
    let machine = Field<[UInt8]>("name.machine")
  }

  private struct Processor: KernelShape {
    static let type = "cpuinfo_x86"
    let model = Field<[UInt8]>("x86_model_id")
  }

  private let subject: String
  private let namesAddress: VirtualAddress
  private let names: Bound<Names>
  private let clock: ClockReader
  private let memory: MemoryInfoReader
  private let taintFlags: TaintFlags?
  private let symbols: [String: VirtualAddress]
  private let processor: (address: VirtualAddress, fields: Bound<Processor>)?

  init(kernel: Kernel) throws {
    subject = kernel.subject(of: Self.self)
    namesAddress = try kernel.symbol("init_uts_ns", for: subject)
    names = try Bound(kernel.types)
    clock = try ClockReader(kernel: kernel)
    memory = try MemoryInfoReader(kernel: kernel)
    taintFlags = try TaintFlags(kernel: kernel)
    var symbols: [String: VirtualAddress] = [:]
    for name in [
      "avenrun", "__cpu_online_mask", "__cpu_possible_mask", "saved_command_line", "tainted_mask", "panic_cpu",
    ] {
      symbols[name] = try kernel.symbol(name, for: subject)
    }
    self.symbols = symbols
    processor = try kernel.symbols.address(of: "boot_cpu_data").map { ($0, try Bound(kernel.types)) }
  }

  /// The bytes of a CPU mask that are looked at: CONFIG_NR_CPUS is 8192 at most on x86-64.
  private static let maskBytes = 1024

  func read(in kernel: Kernel) throws(KernelError) -> HostInfo {
    let space = kernel.addressSpace
    return try KernelError.reading(subject) {
      var batch = ReadBatch<VirtualAddress>()
      let gatheredNames = batch.add(names, at: [namesAddress])
      let load = batch.add(symbol("avenrun"), count: 24)
      let maskSize = cpuMaskSize(kernel)
      let online = batch.add(symbol("__cpu_online_mask"), count: maskSize)
      let possible = batch.add(symbol("__cpu_possible_mask"), count: maskSize)
      let commandLine = batch.add(symbol("saved_command_line"), count: 8)
      let taint = batch.add(symbol("tainted_mask"), count: 8)
      let panic = batch.add(symbol("panic_cpu"), count: 4)
      let processors = processor.map { batch.add($0.fields, at: [$0.address]) }
      let clockRecord = clock.add(to: &batch)
      space.read(&batch)

      let names = gatheredNames.structs(in: batch)[0]
      func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
      // Fixed point with 11 bits of fraction (include/linux/sched/loadavg.h), rounded as /proc/loadavg does.
      let loads = try (0..<3).map { index in
        let value = try batch.reader(load).u64(index * 8) &+ 2048 / 200
        return Double((value >> 11) &* 100 &+ (((value & 2047) * 100) >> 11)) / 100
      }
      let time = try clock.read(clockRecord, batch)
      let panicCPU = try batch.reader(panic).load(0, as: Int32.self)
      // Each of these leads on through pointers, and one that leads astray shall not take the others along.
      var faults: [KernelError] = []
      let line = part("the kernel's command line", otherwise: [], &faults) {
        try readCommandLine(at: batch.reader(commandLine).pointer(0), in: space)
      }
      let letters = part("the taint letters", otherwise: "", &faults) {
        try taintFlags?.letters(of: batch.reader(taint).u64(0), in: space) ?? ""
      }
      let message = part("the panic's message", otherwise: nil, &faults) {
        panicCPU == -1 ? nil : try panicMessage(kernel)
      }
      let counters = part("the memory counters", otherwise: nil, &faults) { try memory.read(in: space) }
      if let fault = counters?.fault { faults.append(fault) }
      return HostInfo(
        sysname: text(try names.system), nodename: text(try names.node), release: text(try names.release),
        version: text(try names.version), machine: text(try names.machine),
        uptime: time.uptime, wallClock: time.wallClock, load: loads,
        onlineCPUs: try Self.weight(batch.reader(online)), possibleCPUs: try Self.weight(batch.reader(possible)),
        cpuModel: try processors.map { text(try $0.structs(in: batch)[0].model) } ?? "",
        commandLine: line, taint: letters,
        // PANIC_CPU_INVALID is -1 (include/linux/panic.h).
        panic: panicCPU == -1 ? nil : .init(cpu: Int(panicCPU), message: message),
        memory: counters?.info ?? MemoryInfo(), pagingLevels: space.format.levels, faults: faults)
    }
  }

  /// A part of the whole, or `otherwise` and a fault that names it.
  private func part<T>(
    _ name: String, otherwise: T, _ faults: inout [KernelError], _ body: () throws -> T
  ) -> T {
    do throws(KernelError) {
      return try KernelError.reading(name, body)
    } catch {
      faults.append(error)
      return otherwise
    }
  }

  private func symbol(_ name: String) -> VirtualAddress { symbols[name] ?? VirtualAddress(0) }

  /// The bytes of this kernel's CPU masks: masks of one kind lie next to each other, but the type says it best.
  private func cpuMaskSize(_ kernel: Kernel) -> Int {
    let size = (try? kernel.types.structure("cpumask").size) ?? 8
    return min(max(size, 8), Self.maskBytes)
  }

  private static func weight(_ reader: borrowing ByteReader) throws(MemoryFault) -> Int {
    var count = 0
    for word in 0..<reader.count / 8 { count += try reader.u64(word * 8).nonzeroBitCount }
    return count
  }

  /// The kernel's command line: COMMAND_LINE_SIZE is 2048 on x86, and boot configuration may lengthen it.
  private func readCommandLine(at address: VirtualAddress, in space: AddressSpace) throws -> [UInt8] {
    var line: [UInt8] = []
    // Page by page: what follows the string need not be readable.
    while line.count < 1 << 16 {
      let next = address + line.count
      let bytes = try space.read(next, count: 4096 - Int(next.rawValue & 4095))
      if let end = bytes.firstIndex(of: 0) { return line + bytes[..<end] }
      line += bytes
    }
    throw KernelError("the kernel's command line", .inconsistent("it does not end within \(line.count) bytes"))
  }

  private func panicMessage(_ kernel: Kernel) throws(KernelError) -> String? {
    let prefix = Array("Kernel panic - not syncing: ".utf8)
    let record = try kernel.log().records.last { $0.text.starts(with: prefix) }
    return record.map { String(decoding: $0.text.dropFirst(prefix.count), as: UTF8.self) }
  }
}

/// The letters of the taint flags, from the kernel's own table `taint_flags`.
private struct TaintFlags: Sendable {
  private struct Flag: KernelShape {
    static let type = "taint_flag"
    let letter = Field<UInt8>("c_true")
  }

  private let table: VirtualAddress
  private let flag: Bound<Flag>
  // TAINT_FLAGS_COUNT is a macro; no kernel has more than bits in the mask, and the table ends at a letter of zero.
  private static let most = 32

  init?(kernel: Kernel) throws {
    guard let table = kernel.symbols.address(of: "taint_flags") else { return nil }
    self.table = table
    flag = try Bound(kernel.types)
  }

  func letters(of mask: UInt64, in space: AddressSpace) throws(MemoryFault) -> String {
    guard mask != 0 else { return "" }
    var letters = ""
    for flag in try space.array(of: flag, at: table, count: min(Self.most, 64 - mask.leadingZeroBitCount))
    where mask >> UInt64(flag.index) & 1 != 0 {
      let letter = try flag.letter
      letters.append((0x41...0x5a).contains(letter) ? Character(UnicodeScalar(letter)) : "?")
    }
    return letters
  }
}

extension Kernel {
  /// The state of the host as a whole.
  ///
  /// Cost: about ten round trips where the memory is remote; more with many block devices.
  public func host() throws(KernelError) -> HostInfo {
    let reader = try reader(HostReader.self)
    return try reader.read(in: self)
  }
}
