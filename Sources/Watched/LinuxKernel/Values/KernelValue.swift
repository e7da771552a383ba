import Binding
public import KernelInfo
public import Memory
import Paging

/// A value of the kernel's memory that a path of fields led to.
public struct KernelValue: Sendable {
  public let address: VirtualAddress
  public let type: KernelType
  public let value: TypedValue
}

extension Kernel {
  /// The value of type `typeName`, the kernel's or a module's, at `address`, or what `path` leads to from there.
  ///
  /// A path is written as in C: `.comm`, `->mm->pgd`, `.files->fdt->fd[2]`. Pointers are followed by `.` and `->` alike,
  /// and an index behind a pointer counts what it points to.
  ///
  /// - Throws: ``KernelError`` that names the part of the path which does not exist or cannot be read. Cost: a read, and
  ///   one more for each pointer on the way.
  public func value(
    of typeName: String, at address: VirtualAddress, path: String = ""
  ) throws(KernelError) -> KernelValue {
    let subject = "\(typeName)\(path) at \(address)"
    return try KernelError.reading(subject) {
      var type = try type(typeName)
      var place = address
      var field: KernelType.Member?
      for part in try Self.parts(of: path, subject) {
        // Each pointer on the way is one read; the path, which the user wrote, bounds how many.
        if type.kind == .pointer, let target = type.target {
          let bytes = try addressSpace.read(place, count: 8)
          place = try ByteReader(bytes.span.bytes).pointer(0)
          type = target
          if case .index = part {
            place = place + Self.distance(part, type.size)
            continue
          }
        }
        switch part {
        case .field(let name):
          guard field?.bitSize ?? 0 == 0, let member = try type.member(name) else {
            throw KernelError(subject, .inconsistent("'\(type.declaration())' has no field '\(name)'"))
          }
          // Bit fields stay with the struct around them.
          if member.bitSize == 0 {
            place = place + member.bitOffset / 8
            type = member.type
          } else {
            field = member
          }
        case .index:
          guard case .array = type.kind, let element = type.target else {
            throw KernelError(subject, .inconsistent("'\(type.declaration())' is no array"))
          }
          place = place + Self.distance(part, element.size)
          type = element
        }
      }
      if let field {
        let bytes = try addressSpace.read(place, count: type.size)
        return KernelValue(
          address: place + field.offset, type: field.type,
          value: try type.value(of: field, ByteReader(bytes.span.bytes)))
      }
      guard type.size > 0 else {
        throw KernelError(subject, .inconsistent("'\(type.declaration())' has no size in this kernel's types"))
      }
      let bytes = try addressSpace.read(place, count: type.size)
      return KernelValue(address: place, type: type, value: try type.value(ByteReader(bytes.span.bytes)))
    }
  }

  private enum PathPart {
    case field(String)
    case index(Int)
  }

  private static func distance(_ part: PathPart, _ size: Int) -> Int {
    if case .index(let index) = part { index &* size } else { 0 }
  }

  private static func parts(of path: String, _ subject: String) throws(KernelError) -> [PathPart] {
    var parts: [PathPart] = []
    var rest = Substring(path)
    while !rest.isEmpty {
      if rest.hasPrefix("->") {
        rest = rest.dropFirst(2)
      } else if rest.hasPrefix(".") {
        rest = rest.dropFirst()
      } else if rest.hasPrefix("[") {
        let digits = rest.dropFirst().prefix { $0 != "]" }
        guard let index = Int(digits), rest.dropFirst(1 + digits.count).hasPrefix("]") else {
          throw KernelError(subject, .inconsistent("'\(rest)' is no index"))
        }
        parts.append(.index(index))
        rest = rest.dropFirst(digits.count + 2)
        continue
      } else if !parts.isEmpty {
        throw KernelError(subject, .inconsistent("'\(rest)' is no path: write .field, ->field or [index]"))
      }
      let name = rest.prefix { $0.isLetter || $0.isNumber || $0 == "_" }
      guard !name.isEmpty else {
        throw KernelError(subject, .inconsistent("'\(rest)' is no path: write .field, ->field or [index]"))
      }
      parts.append(.field(String(name)))
      rest = rest.dropFirst(name.count)
    }
    return parts
  }
}
