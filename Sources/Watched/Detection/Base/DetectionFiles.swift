import FoundationEssentials
import Glibc

/// A file of what was learned, or of rules, that cannot be used.
public struct DetectionFileError: Error, CustomStringConvertible {
  /// Which it is, and why.
  public let description: String
}

extension Baseline {
  /// What was learned before, from a file that ``write(to:)`` made.
  ///
  /// - Throws: ``DetectionFileError`` where it is no such file.
  public init(file path: String) throws(DetectionFileError) {
    do {
      self = try JSONDecoder().decode(Baseline.self, from: try Data(contentsOf: URL(filePath: path)))
    } catch {
      throw DetectionFileError(description: "\(path) is no baseline of a host: \(error)")
    }
  }

  /// Writes it as JSON, in place of what is there; who reads meanwhile sees the old one or the new one.
  ///
  /// - Throws: ``DetectionFileError`` where it cannot be written.
  public func write(to path: String) throws(DetectionFileError) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    do {
      try encoder.encode(self).write(to: URL(filePath: path), options: .atomic)
    } catch {
      throw DetectionFileError(description: "what was learned cannot be written to \(path): \(error)")
    }
  }

  /// What was learned, for a person to approve: each fact where there are few, their number where there are many.
  public var lines: [String] {
    facts.sorted { $0.key < $1.key }.map { name, facts in
      let known = facts.filter { !$0.key.isEmpty }.sorted { $0.key < $1.key }
      return known.count > 12
        ? "learned for \(name): \(known.count) facts"
        : "learned for \(name): \(known.map { "\($0.key) \($0.value)" }.joined(separator: "; "))"
    }
  }
}

extension Allowance {
  /// The rules of a file: a JSON array of them.
  ///
  /// - Throws: ``DetectionFileError`` where it is none, or has a rule that cannot be used.
  public static func rules(file path: String) throws(DetectionFileError) -> [Allowance] {
    let rules: [Allowance]
    do {
      rules = try JSONDecoder().decode([Allowance].self, from: try Data(contentsOf: URL(filePath: path)))
    } catch {
      throw DetectionFileError(description: "\(path) has no rules of what is allowed: \(error)")
    }
    for (index, rule) in rules.enumerated() {
      if let problem = rule.problem {
        throw DetectionFileError(description: "rule \(index + 1) of \(path): \(problem)")
      }
    }
    return rules
  }

  /// Today as rules write it, by UTC.
  public static var today: String {
    var seconds = time(nil)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func digits(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
    return "\(parts.tm_year + 1900)-\(digits(parts.tm_mon + 1))-\(digits(parts.tm_mday))"
  }
}
