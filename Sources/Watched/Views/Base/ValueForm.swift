import Binding
package import Memory
package import Paging

/// How a value in memory is read whose type only the memory tells.
package enum ValueForm: Sendable {
  /// Numbers of so many bytes: 1, 2, 4 or 8.
  case signed(Int)
  case unsigned(Int)
  /// A byte: whether it is not zero.
  case flag
  /// A byte: whether it is zero.
  case noFlag
  /// A pointer to zero-terminated text.
  case text

  /// The form that the kernel calls `name` in names of functions for parameters: `uint`, `charp`.
  package init?(named name: some StringProtocol) {
    switch name {
    case "byte": self = .unsigned(1)
    case "short": self = .signed(2)
    case "ushort": self = .unsigned(2)
    case "int": self = .signed(4)
    case "uint", "hexint": self = .unsigned(4)
    case "long": self = .signed(8)
    case "ulong", "ullong": self = .unsigned(8)
    case "bool": self = .flag
    case "invbool": self = .noFlag
    case "charp", "string": self = .text
    default: return nil
    }
  }

  fileprivate var size: Int {
    switch self {
    case .signed(let size), .unsigned(let size): size
    case .flag, .noFlag: 1
    case .text: 8
    }
  }
}

extension AddressSpace {
  /// The values at `places`, none where the form is nil.
  ///
  /// Cost: one batch, and that of the texts.
  package func values(_ places: [(address: VirtualAddress, form: ValueForm?)]) -> [Result<ViewValue, MemoryFault>] {
    var batch = ReadBatch<VirtualAddress>()
    for place in places { batch.add(place.address, count: place.form?.size ?? 0) }
    read(&batch)
    func number(_ index: Int) throws(MemoryFault) -> UInt64 {
      try batch.reader(index).copy().reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    let texts = strings(
      at: places.indices.map { index in
        guard case .text = places[index].form else { return VirtualAddress(0) }
        return VirtualAddress((try? number(index)) ?? 0)
      }, limit: 4096)
    return places.indices.map { index in
      Result { () throws(MemoryFault) -> ViewValue in
        guard let form = places[index].form else { return .none }
        let value = try number(index)
        return switch form {
        case .signed(let size): .signed(Int64(bitPattern: value << UInt64(64 - 8 * size)) >> Int64(64 - 8 * size))
        case .unsigned: .unsigned(value)
        case .flag: .bool(value != 0)
        case .noFlag: .bool(value == 0)
        case .text: value == 0 ? .none : .bytes(try texts[index].get())
        }
      }
    }
  }
}
