/// What a fleet's service is to do: the file that an operator writes, checked.
///
/// ```yaml
/// listen: 127.0.0.1:9187
/// database: /var/lib/grass-fleet/fleet.db
/// hosts:
///   - name: db1
///     url: tcp://10.0.0.7:7117
///     labels: {rack: a1}
/// ```
public struct FleetConfiguration: Hashable, Sendable {
  /// A host to watch.
  public struct Host: Hashable, Sendable {
    /// Letters, digits, `.`, `-` and `_`; no two hosts have the same.
    public var name: String
    /// As grassd printed it, or `grass://NAME` of the folder of keys.
    public var url: String
    /// What operators sort hosts by, with names as Prometheus takes them.
    public var labels: [String: String]
    /// Seconds between two looks at its line.
    public var period: Double
  }

  /// Who may look, and whether they may change anything.
  public struct User: Hashable, Sendable {
    public var name: String
    /// What `grass-fleet password` printed.
    public var password: PasswordHash
    public var isAdmin: Bool
  }

  /// A proxy that says who asks.
  public struct Proxy: Hashable, Sendable {
    /// The header that has the user's name.
    public var header: String
    /// The addresses from which it counts; from all others it is ignored.
    public var from: Set<String>
    /// Users who may change something.
    public var admins: Set<String>
  }

  /// Where to listen; port 0 lets the system choose.
  public struct Address: Hashable, Sendable, CustomStringConvertible {
    public var host: String
    public var port: Int
    /// Whether only this machine reaches it.
    public var isLoopback: Bool { host == "127.0.0.1" || host == "::1" || host == "localhost" }
    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
  }

  /// Who takes syslog's messages.
  public enum SyslogAddress: Hashable, Sendable, CustomStringConvertible {
    case unix(path: String)
    case udp(host: String, port: Int)
    case tcp(host: String, port: Int)

    public var description: String {
      func place(_ host: String, _ port: Int) -> String { Address(host: host, port: port).description }
      return switch self {
      case .unix(let path): "unix://\(path)"
      case .udp(let host, let port): "udp://\(place(host, port))"
      case .tcp(let host, let port): "tcp://\(place(host, port))"
      }
    }
  }

  /// Where findings and states are written, and how.
  public struct Log: Hashable, Sendable {
    public enum Target: Hashable, Sendable {
      /// The path of a file that is appended to.
      case file(String)
      case syslog(SyslogAddress)
    }

    public var target: Target
    public var form: EventForm
    /// What syslog sorts messages by, from 0 to 23.
    public var facility: Int
  }

  /// The service's own certificate: paths of files in PEM.
  public struct TLS: Hashable, Sendable {
    /// The certificate, and behind it those that lead to one that others know.
    public var certificate: String
    public var key: String
  }

  /// Which of several instances this is: each has the hosts whose names fall to it.
  public struct Shard: Hashable, Sendable {
    /// From 1 on.
    public var number: Int
    public var count: Int

    /// Whether a host of this name falls to it.
    ///
    /// FNV-1a of the name: the same on every machine and in every version.
    public func has(_ name: String) -> Bool {
      let hash = name.utf8.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
      return hash % UInt64(count) == UInt64(number - 1)
    }
  }

  /// Who else knows whether hosts live: a Prometheus that scrapes agents on the hosts themselves.
  public struct Witness: Hashable, Sendable {
    /// Its base address.
    public var prometheus: String
    /// What it is asked, in PromQL: a vector of 0 and 1, an element a host.
    public var query: String
    /// The label that says which host an element is of; what follows a colon, as in HOST:PORT, does not count.
    public var label: String
    /// Seconds between two questions.
    public var period: Double
    /// How the service says who it is; nil where it does not.
    public var login: Login?
    /// The path of a file in PEM with who vouches for its certificate; nil for those whom this machine trusts.
    public var authority: String?

    /// Paths of files, which are read at each question, so that what is in them may change.
    public enum Login: Hashable, Sendable {
      /// A name, and a file with its password.
      case password(user: String, file: String)
      /// A file with a bearer token.
      case token(file: String)
    }
  }

  /// Images of hosts' memory, and when they are taken.
  public struct Images: Hashable, Sendable {
    /// When an image is taken by itself: where a host has one of these states, or a finding as all that is given here says.
    public struct Rule: Hashable, Sendable {
      public var states: Set<String>
      /// Names of detectors.
      public var findings: Set<String>
      /// `attack`, `fault`, `change`.
      public var kinds: Set<String>
      public var severities: Set<String>
      /// What is left out, in makedumpfile's numbers added up.
      public var level: Int
      /// How many images of one host this rule takes within a day at most.
      public var perDay: Int
    }

    /// Where images go.
    public enum Destination: Hashable, Sendable {
      /// The path of a store, which is made where there is none, and that of the private key that signs images; nil for unsigned ones.
      case store(String, signer: String?)
      /// The path of a folder of files, and to whom each is encrypted: public keys of age, or paths of files of such.
      case folder(String, recipients: [String])
    }

    public var destination: Destination
    /// What is left out of images that somebody asks for, in makedumpfile's numbers added up.
    public var level: Int
    /// How many images of each host are kept; 0 for all.
    public var keep: Int
    public var rules: [Rule]
  }

  public var listen = Address(host: "127.0.0.1", port: 9187)
  /// The path of the database; beside the configuration where it does not say.
  public var database = "fleet.db"
  /// Seconds between two looks at a host's line, where the host has no other.
  public var period = 1.0
  /// Seconds that a host has for an answer.
  public var timeout = 2.0
  /// Seconds between two checks of a host with all detectors by the service itself; 0 for none.
  public var detectorsEvery = 600.0
  /// Days after which closed findings, changes of state and who looked are forgotten.
  public var retention = 90.0
  /// The folder with the service's own identity and `known_hosts`; nil for the user's.
  public var keys: String?
  /// What links in alerts begin with; nil for the address that is listened to.
  public var url: String?
  /// Base addresses of Alertmanagers.
  public var alertmanagers: [String] = []
  /// Where each change is posted as JSON.
  public var webhooks: [String] = []
  public var logs: [Log] = []
  /// nil for plain HTTP.
  public var tls: TLS?
  public var users: [User] = []
  public var proxy: Proxy?
  public var shard: Shard?
  /// nil for no other witness than the service's own look.
  public var witness: Witness?
  /// nil where no images are taken.
  public var images: Images?
  /// In the order of the file, those of other shards left out.
  public var hosts: [Host] = []

  public init() {}

  /// Whether everybody who reaches it may do everything: then it listens to this machine only.
  public var isOpen: Bool { users.isEmpty && proxy == nil }
}
