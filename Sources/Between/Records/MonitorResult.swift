import CLayouts
import CRegion
import Memory

/// What one run of a monitor gave: its records, and why it is not whole where it is not.
public struct MonitorResult: Sendable {
  /// One record: its kind, as the monitor numbers it, and its bytes, a multiple of 8.
  public struct Record: Sendable {
    public let kind: Int
    public let bytes: ArraySlice<UInt8>
  }

  /// Why a lane ended before its time.
  public struct Fault: Hashable, Sendable, CustomStringConvertible {
    public let code: UInt32
    public let lane: Int
    public let address: UInt64
    public let level: Int
    public let entry: UInt64

    public init(code: UInt32, lane: Int, address: UInt64, level: Int, entry: UInt64) {
      self.code = code
      self.lane = lane
      self.address = address
      self.level = level
      self.entry = entry
    }

    public var description: String {
      let place = "0x" + String(address, radix: 16)
      let why =
        switch code {
        case GRASS_FAULT_ABSENT.rawValue: "\(place) is mapped to memory that is not there"
        case GRASS_FAULT_UNALIGNED.rawValue: "\(place) is not aligned to what lies there"
        case GRASS_FAULT_WILD.rawValue: "\(place) is neither the kernel's nor the monitor's own"
        case GRASS_FAULT_STORE.rawValue: "it would have stored to the kernel's \(place)"
        case GRASS_FAULT_BOUNDS.rawValue: "offset \(Int64(bitPattern: address)) lies outside its variable"
        case GRASS_FAULT_BUDGET.rawValue: "its loops took more steps than it is given"
        case GRASS_FAULT_FULL.rawValue: "its records did not fit"
        case GRASS_FAULT_DIVISION.rawValue: "it divided by zero, or beyond what fits"
        default:
          MemoryFault.Reason(code: code, level: level, entry: entry).map { "\(place) \($0)" }
            ?? "an unknown fault, number \(code)"
        }
      return "lane \(lane) ended early: \(why)"
    }
  }

  public let records: [Record]
  /// Empty where the result is whole.
  public let faults: [Fault]
  public var isPartial: Bool { !faults.isEmpty }

  /// Takes a run's output apart: entries of `u32 kind, u32 size` and `size` bytes each; those of kind 0 are filling.
  public init(output: [UInt8], faults: [Fault]) {
    var records: [Record] = []
    var offset = 0
    let reader = ByteReader(output.span.bytes)
    while let kind = try? reader.u32(offset), let size = try? reader.u32(offset + 4) {
      let start = offset + MemoryLayout<grass_entry>.size
      guard Int(size) <= output.count - start else { break }
      if kind != 0 { records.append(Record(kind: Int(kind), bytes: output[start..<start + Int(size)])) }
      offset = start + Int(size)
    }
    self.records = records
    self.faults = faults
  }
}
