import Dispatch
import FoundationEssentials
import Host
import Logging

/// Asks a Prometheus whether the agents on the hosts themselves answer: the second witness of each host's state.
///
/// One question tells of all hosts. What it does not tell of, and what nobody can be asked about, is not known and changes nothing. As
/// with webhooks, the program `curl` is what asks.
final class AgentWitness: Sendable {
  private let witness: FleetConfiguration.Witness
  private let say: @Sendable ([String: Bool]?) -> Void
  private let log: Logger
  private let problem = Locked<String?>(nil)
  private let ending = DispatchSemaphore(value: 0)
  private let thread = Locked<DedicatedThread?>(nil)

  /// How long an answer may take, in seconds, and how many bytes of it are read.
  private static let (patience, longest) = (5, 64 << 20)

  /// Begins to ask.
  ///
  /// - Parameters:
  ///   - witness: whom, what and how often.
  ///   - log: where it goes that there is no answer.
  ///   - say: told of each answer which hosts' agents are up; nil where there is none.
  /// - Throws: ``SystemCallError`` where there can be no thread.
  init(
    _ witness: FleetConfiguration.Witness, log: Logger, say: @escaping @Sendable ([String: Bool]?) -> Void
  ) throws(SystemCallError) {
    (self.witness, self.say, self.log) = (witness, say, log)
    let made = try DedicatedThread(name: "witness") { [self] in run() }
    thread.withLock { $0 = made }
  }

  /// Why the last question was not answered; nil where it was.
  var failure: String? { problem.withLock { $0 } }

  /// Asks no more, once what is under way is over.
  func finish() {
    ending.signal()
    thread.withLock { thread in
      defer { thread = nil }
      return thread
    }?.join()
  }

  private func run() {
    repeat {
      let answer: [String: Bool]?
      let why: String?
      do throws(Failure) {
        (answer, why) = (try Self.agents(in: try ask(), label: witness.label), nil)
      } catch {
        (answer, why) = (nil, error.description)
      }
      let before = problem.withLock { problem in
        defer { problem = why }
        return problem
      }
      if let why, before == nil { log.warning("\(witness.prometheus) does not tell of agents: \(why)") }
      if why == nil, before != nil { log.notice("\(witness.prometheus) tells of agents again") }
      say(answer)
    } while ending.wait(timeout: .now() + witness.period) == .timedOut
  }

  /// Why there is no answer.
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// What Prometheus' API has of an instant query: <https://prometheus.io/docs/prometheus/latest/querying/api/>.
  private struct Answer: Decodable {
    struct Content: Decodable {
      struct Element: Decodable {
        var metric: [String: String]
        /// The time, and the value as a text.
        var value: [Member]
      }
      var resultType: String
      var result: [Element]
    }
    enum Member: Decodable {
      case number(Double)
      case text(String)

      init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        self = try (try? container.decode(Double.self)).map { .number($0) } ?? .text(container.decode(String.self))
      }
    }
    var status: String
    var error: String?
    var data: Content?
  }

  /// Which agents are up by an answer's bytes, by the names of hosts.
  ///
  /// Where several elements are of one host, one that is up is enough.
  static func agents(in bytes: [UInt8], label: String) throws(Failure) -> [String: Bool] {
    let answer: Answer
    do { answer = try JSONDecoder().decode(Answer.self, from: Data(bytes)) } catch {
      throw Failure(description: "it answers otherwise than Prometheus' API does")
    }
    guard let data = answer.data else {
      throw Failure(description: "it refuses the query: \(FleetWatch.oneLine(answer.error ?? answer.status))")
    }
    guard data.resultType == "vector" else {
      throw Failure(
        description: "the query gives a \(data.resultType.prefix(40)); it has to give a vector, as up{…} does")
    }
    var agents: [String: Bool] = [:]
    for element in data.result {
      guard let name = element.metric[label], case .text(let text)? = element.value.last, let value = Double(text)
      else { continue }
      let host = name.lastIndex(of: ":").map { colon in
        name[name.index(after: colon)...].allSatisfy(\.isNumber) ? String(name[..<colon]) : name
      }
      agents[host ?? name, default: false] = agents[host ?? name, default: false] || value > 0
    }
    return agents
  }

  private func ask() throws(Failure) -> [UInt8] {
    var settings: [(name: String, value: String?)] = [
      ("get", nil), ("data-urlencode", "query=\(witness.query)"), ("max-time", "\(Self.patience)"),
      ("max-filesize", "\(Self.longest)"), ("url", "\(witness.prometheus)/api/v1/query"),
    ]
    if let authority = witness.authority { settings.append(("cacert", authority)) }
    // Read anew each time: tokens are changed while services run.
    do throws(SecretFile.Failure) {
      switch witness.login {
      case .password(let user, let file)?: settings.append(("user", "\(user):\(try SecretFile.read(file))"))
      case .token(let file)?: settings.append(("header", "Authorization: Bearer \(try SecretFile.read(file))"))
      case nil: break
      }
    } catch {
      throw Failure(description: error.description)
    }
    let (said, status): ([UInt8], Int32)
    do throws(SystemCallError) { (said, status) = try curl(settings, most: Self.longest) } catch {
      throw Failure(description: "\(error); the program curl is needed")
    }
    guard status == 0 else {
      throw Failure(description: FleetWatch.oneLine(String(decoding: said.prefix(1000), as: UTF8.self)))
    }
    return said
  }
}
