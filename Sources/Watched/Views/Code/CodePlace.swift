public import Memory
import Views

/// Where code lies: what tells a hook of the kernel's own from one that somebody added.
public struct CodePlace: Hashable, Sendable {
  public enum Owner: Hashable, Sendable {
    /// The kernel's own text.
    case kernel
    /// A loaded module's memory, by its name.
    case module([UInt8])
    /// None of them: the code of BPF programs and of probes, or something that hides.
    case unknown
  }

  public var address: VirtualAddress
  public var owner: Owner
  /// The symbol and the distance from it, with the module in brackets, where the kernel's or the module's table has one.
  public var symbol: String?
}

extension CodePlace {
  /// `kernel`, the module's name in brackets, or `?` for code that belongs to neither.
  public var ownerName: String {
    switch owner {
    case .kernel: "kernel"
    case .module(let name): "[\(name.printable)]"
    case .unknown: "?"
    }
  }

  /// The symbol, or the address where there is none.
  public var name: String { symbol ?? "\(address)" }
}
