public import Memory

/// What the kernel tells crash tools about itself: text lines in an ELF note, made at boot.
///
/// ```
/// OSRELEASE=6.1.0-56-amd64
/// SYMBOL(swapper_pg_dir)=ffffffff9fc10000
/// NUMBER(phys_base)=-343932928
/// OFFSET(list_head.next)=0
/// KERNELOFFSET=1d200000
/// ```
///
/// Mirrors `kernel/vmcore_info.c` (`kernel/crash_core.c` before 6.9).
public struct VMCoreInfo: Sendable {
  /// The lines as the kernel wrote them.
  public let text: String
  private let values: [String: String]

  /// Parses the note's text.
  ///
  /// Lines without `=` are passed over; of a key given twice the first counts.
  public init(text bytes: [UInt8]) {
    var values: [String: String] = [:]
    for line in bytes.split(separator: UInt8(ascii: "\n")) {
      guard let equals = line.firstIndex(of: UInt8(ascii: "=")) else { continue }
      let key = String(decoding: line[..<equals], as: UTF8.self)
      if values[key] == nil { values[key] = String(decoding: line[(equals + 1)...], as: UTF8.self) }
    }
    self.values = values
    text = String(decoding: bytes, as: UTF8.self)
  }

  /// The text after `key=`, whatever the key.
  public func value(_ key: String) -> String? { values[key] }

  /// The kernel's release as `uname -r` prints it, empty where the line is missing.
  public var release: String { values["OSRELEASE"] ?? "" }

  /// The linker's build ID in hexadecimal, where the kernel has one.
  public var buildID: String? { values["BUILD-ID"] }

  /// How far address randomisation moved the image from where it was linked, in bytes.
  public var kernelOffset: UInt64 { values["KERNELOFFSET"].flatMap { UInt64($0, radix: 16) } ?? 0 }

  /// What to add to a distance from the start of the kernel's mapping to get the physical address.
  public var physicalBase: Int64 { number("phys_base") ?? 0 }

  /// Whether page tables have five levels rather than four.
  public var hasFiveLevelPaging: Bool { number("pgtable_l5_enabled") == 1 }

  /// The value of a `SYMBOL(name)` line.
  ///
  /// Most are addresses of symbols, a few what a pointer symbol holds.
  public func symbol(_ name: String) -> VirtualAddress? {
    values["SYMBOL(\(name))"].flatMap { UInt64($0, radix: 16) }.map { VirtualAddress($0) }
  }

  /// The value of a `NUMBER(name)` line, which the kernel writes in decimal or as `0x` and hexadecimal digits.
  public func number(_ name: String) -> Int64? {
    guard let text = values["NUMBER(\(name))"] else { return nil }
    if text.hasPrefix("0x") { return UInt64(text.dropFirst(2), radix: 16).map { Int64(bitPattern: $0) } }
    return Int64(text)
  }

  /// The size of a struct or type in bytes.
  public func size(_ name: String) -> Int? { values["SIZE(\(name))"].flatMap { Int($0) } }

  /// The offset in bytes of a field, named `struct.field`.
  public func offset(_ name: String) -> Int? { values["OFFSET(\(name))"].flatMap { Int($0) } }

  /// The number of elements of an array.
  public func length(_ name: String) -> Int? { values["LENGTH(\(name))"].flatMap { Int($0) } }

  /// All `SYMBOL(name)` lines.
  package var symbols: [(name: String, address: VirtualAddress)] {
    values.compactMap { key, value in
      guard key.hasPrefix("SYMBOL("), key.hasSuffix(")"), let address = UInt64(value, radix: 16) else { return nil }
      return (String(key.dropFirst(7).dropLast()), VirtualAddress(address))
    }
  }
}
