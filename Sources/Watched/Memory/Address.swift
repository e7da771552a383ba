/// A place in an address space: 64 bits wide, printed in hexadecimal, with arithmetic that wraps.
///
/// Arithmetic wraps because addresses come from memory that may be hostile: a sum that overflows must not
/// trap here, it must fail where it is read.
public protocol MemoryAddress: RawRepresentable<UInt64>, Hashable, Comparable, Sendable, CustomStringConvertible {
  init(rawValue: UInt64)
}

extension MemoryAddress {
  /// Makes an address of a number.
  @inlinable
  public init(_ rawValue: UInt64) { self.init(rawValue: rawValue) }

  /// The address `distance` bytes further on, modulo 2^64.
  @inlinable
  public static func + (address: Self, distance: Int) -> Self {
    Self(rawValue: address.rawValue &+ UInt64(bitPattern: Int64(distance)))
  }

  /// The address `distance` bytes before, modulo 2^64.
  @inlinable
  public static func - (address: Self, distance: Int) -> Self {
    Self(rawValue: address.rawValue &- UInt64(bitPattern: Int64(distance)))
  }

  /// The distance from `start` to this address in bytes, modulo 2^64.
  @inlinable
  public func distance(from start: Self) -> UInt64 { rawValue &- start.rawValue }

  @inlinable
  public static func < (lhs: Self, rhs: Self) -> Bool { lhs.rawValue < rhs.rawValue }

  public var description: String { "0x" + String(rawValue, radix: 16) }
}

/// A byte's place in the physical memory of the watched host, as its page tables name it.
public struct PhysicalAddress: MemoryAddress {
  public var rawValue: UInt64
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// A byte's place as the watched host's kernel or one of its processes names it.
public struct VirtualAddress: MemoryAddress {
  public var rawValue: UInt64
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Whether it is one of the kernel's, which has the upper half of all addresses.
  @inlinable
  public var isKernels: Bool { rawValue >> 63 == 1 }
}
