import Detection
import Foundation
import GRDB
import Host

/// What lasts of a fleet: findings with every change, states, who acknowledged what, who looked at what; one file of SQLite.
///
/// A host's log and the place up to which it was taken are written in one transaction: a service that is killed at any point takes the
/// rest of the log after it, and nothing twice. Calls block; each takes some milliseconds at most on a disk that works.
public final class FleetStore: Sendable {
  public let path: String
  private let pool: DatabasePool
  private let failure = Locked<StoreError?>(nil)

  /// Opens the database at a path, makes it where there is none, and brings it up to this version.
  ///
  /// - Throws: ``StoreError`` where it cannot be opened, or is none.
  public init(path: String) throws(StoreError) {
    self.path = path
    do {
      var configuration = GRDB.Configuration()
      configuration.label = "fleet"
      configuration.maximumReaderCount = 3
      configuration.busyMode = .timeout(5)
      configuration.prepareDatabase { db in
        // In WAL mode a killed process loses nothing by this, and a machine that loses power the last moments, which devices still have.
        try db.execute(sql: "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON")
      }
      pool = try DatabasePool(path: path, configuration: configuration)
      try Self.migrator.migrate(pool)
    } catch {
      throw Self.reason(error, path)
    }
  }

  /// What the last write failed with; nil where it was written.
  public var problem: StoreError? { failure.withLock { $0 } }

  private static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("1") { db in
      try db.execute(
        sql: """
          CREATE TABLE host (
            name TEXT PRIMARY KEY, epoch INTEGER NOT NULL DEFAULT 1, taken INTEGER NOT NULL DEFAULT 0,
            mark INTEGER NOT NULL DEFAULT 0, state TEXT, since REAL, cause TEXT, before_state TEXT, before_since REAL,
            before_cause TEXT) STRICT;
          CREATE TABLE state_change (
            number INTEGER PRIMARY KEY, host TEXT NOT NULL, at REAL NOT NULL, state TEXT NOT NULL, cause TEXT NOT NULL,
            UNIQUE (host, at, state)) STRICT;
          -- Every entry of every log, once: a log is a host's, and its epoch tells it from those before.
          CREATE TABLE finding_change (
            host TEXT NOT NULL, epoch INTEGER NOT NULL, entry INTEGER NOT NULL, finding INTEGER NOT NULL,
            state TEXT NOT NULL, severity TEXT NOT NULL, title TEXT NOT NULL, at REAL NOT NULL, json BLOB NOT NULL,
            PRIMARY KEY (host, epoch, entry)) STRICT, WITHOUT ROWID;
          CREATE INDEX finding_change_of ON finding_change (finding);
          -- What each finding was last.
          CREATE TABLE finding (
            number INTEGER PRIMARY KEY, host TEXT NOT NULL, id TEXT NOT NULL, boot TEXT NOT NULL, epoch INTEGER NOT NULL,
            state TEXT NOT NULL, kind TEXT NOT NULL, severity TEXT NOT NULL, confidence TEXT NOT NULL,
            detector TEXT NOT NULL, title TEXT NOT NULL, first REAL NOT NULL, last REAL NOT NULL, kept REAL NOT NULL, json BLOB NOT NULL,
            UNIQUE (host, id, boot)) STRICT;
          CREATE INDEX finding_open ON finding (host) WHERE state <> 'closed';
          CREATE TABLE acknowledgement (
            number INTEGER PRIMARY KEY, finding INTEGER NOT NULL, who TEXT NOT NULL, comment TEXT NOT NULL,
            at REAL NOT NULL, until REAL) STRICT;
          CREATE INDEX acknowledgement_of ON acknowledgement (finding);
          CREATE TABLE maintenance (
            number INTEGER PRIMARY KEY, host TEXT NOT NULL, who TEXT NOT NULL, comment TEXT NOT NULL,
            start REAL NOT NULL, until REAL NOT NULL) STRICT;
          CREATE TABLE last_words (
            host TEXT NOT NULL, boot TEXT NOT NULL, taken REAL NOT NULL, line TEXT NOT NULL, text TEXT NOT NULL,
            PRIMARY KEY (host, boot, taken)) STRICT, WITHOUT ROWID;
          CREATE TABLE visit (
            number INTEGER PRIMARY KEY, at REAL NOT NULL, who TEXT NOT NULL, address TEXT NOT NULL, what TEXT NOT NULL) STRICT;
          CREATE INDEX visit_at ON visit (at);
          """)
    }
    migrator.registerMigration("2") { db in
      try db.execute(
        sql: """
          -- Images that were asked for, and what became of them.
          CREATE TABLE image (
            number INTEGER PRIMARY KEY, host TEXT NOT NULL, who TEXT NOT NULL, reason TEXT NOT NULL, rule TEXT NOT NULL,
            level INTEGER NOT NULL, state TEXT NOT NULL, asked REAL NOT NULL, ended REAL, total INTEGER NOT NULL,
            image TEXT, stored INTEGER NOT NULL, problem TEXT) STRICT;
          CREATE INDEX image_of ON image (host, asked);
          """)
    }
    return migrator
  }

  private static func reason(_ error: any Error, _ path: String) -> StoreError {
    guard let error = error as? DatabaseError else {
      return StoreError(path: path, reason: .database(String("\(error)".prefix(300))))
    }
    if error.resultCode == .SQLITE_FULL { return StoreError(path: path, reason: .full) }
    return StoreError(path: path, reason: .database(error.message ?? "SQLite's error \(error.resultCode.rawValue)"))
  }

  private func write<Value>(_ body: (Database) throws -> Value) throws(StoreError) -> Value {
    do {
      let value = try pool.write(body)
      failure.withLock { $0 = nil }
      return value
    } catch {
      let reason = Self.reason(error, path)
      failure.withLock { $0 = reason }
      throw reason
    }
  }

  private func read<Value>(_ body: (Database) throws -> Value) throws(StoreError) -> Value {
    do { return try pool.read(body) } catch { throw Self.reason(error, path) }
  }

  // MARK: Hosts and their logs

  /// What is kept of a host; as of a new one where there is nothing.
  public func host(_ name: String) throws(StoreError) -> KeptHost {
    try read { db in
      var kept = KeptHost()
      if let row = try Row.fetchOne(db, sql: "SELECT * FROM host WHERE name = ?", arguments: [name]) {
        kept.epoch = row["epoch"]
        kept.taken = UInt64(bitPattern: row["taken"] as Int64)
        kept.mark = row["mark"]
        kept.standing = Self.standing(row)
      }
      for row in try Row.fetchAll(
        db, sql: "SELECT * FROM finding WHERE host = ? AND state <> 'closed'", arguments: [name])
      {
        let finding = OpenFinding(
          id: row["id"], detector: row["detector"], kind: .init(rawValue: row["kind"]) ?? .fault,
          severity: .init(rawValue: row["severity"]) ?? .info, confidence: .init(rawValue: row["confidence"]) ?? .hint,
          title: row["title"], first: row["first"])
        if row["epoch"] == Self.ownEpoch { kept.checked.append(finding) } else { kept.open.append(finding) }
      }
      return kept
    }
  }

  private static func standing(_ row: Row) -> Standing? {
    guard let name = row["state"] as String?, let state = HostState(rawValue: name), let since = row["since"] as Double?
    else { return nil }
    var standing = Standing(state: state, since: since, cause: row["cause"] ?? "")
    if let name = row["before_state"] as String?, let state = HostState(rawValue: name) {
      standing.before = .init(state: state, since: row["before_since"] ?? since, cause: row["before_cause"] ?? "")
    }
    return standing
  }

  /// Keeps changes of a host's log, and up to where it was taken, in one transaction.
  ///
  /// - Parameters:
  ///   - changes: in the order of their numbers; those that are kept already are left out.
  ///   - host: its name.
  ///   - epoch: which of its logs; where it is a later one than before, what an earlier one has open is closed.
  ///   - taken: up to which number the log was taken.
  ///   - mark: what tells the entry of that number, where it is known.
  ///   - utc: now, in seconds since 1970: how long it is kept counts from here, whatever a device takes for the time.
  /// - Returns: those of the changes that were not kept before.
  /// - Throws: ``StoreError``: then nothing of it is kept.
  public func keep(
    _ changes: [FindingChange], of host: String, epoch: Int64, taken: UInt64, mark: Int64?, at utc: Double
  ) throws(StoreError) -> [FindingChange] {
    try write { db in
      var new: [FindingChange] = []
      try db.execute(
        sql: "UPDATE finding SET state = 'closed' WHERE host = ? AND epoch < ? AND epoch <> ? AND state <> 'closed'",
        arguments: [host, epoch, Self.ownEpoch])
      if db.changesCount > 0 { try Self.endAcknowledgements(db, of: host) }
      for change in changes {
        let entry = Int64(bitPattern: change.number)
        guard
          try !Bool.fetchOne(
            db, sql: "SELECT EXISTS (SELECT 1 FROM finding_change WHERE host = ? AND epoch = ? AND entry = ?)",
            arguments: [host, epoch, entry]
          ).unwrapped
        else { continue }
        try Self.keep(change, of: host, epoch: epoch, entry: entry, at: utc, db)
        new.append(change)
      }
      try db.execute(
        sql: """
          INSERT INTO host (name, epoch, taken, mark) VALUES (?, ?, ?, ?)
          ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, taken = excluded.taken,
            mark = CASE WHEN ? THEN excluded.mark ELSE mark END
          """, arguments: [host, epoch, Int64(bitPattern: taken), mark ?? 0, mark != nil])
      return new
    }
  }

  /// What the service finds itself is the log of this epoch, whose entries it numbers: those of devices begin at 1.
  private static let ownEpoch: Int64 = 0

  private static func keep(
    _ change: FindingChange, of host: String, epoch: Int64, entry: Int64, at utc: Double, _ db: Database
  ) throws {
    try db.execute(
      sql: """
        INSERT INTO finding (host, id, boot, epoch, state, kind, severity, confidence, detector, title, first, last, kept, json)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (host, id, boot) DO UPDATE SET epoch = excluded.epoch, state = excluded.state, kind = excluded.kind,
          severity = excluded.severity, confidence = excluded.confidence, title = excluded.title,
          first = excluded.first, last = excluded.last, kept = excluded.kept, json = excluded.json
        """,
      arguments: [
        host, change.id, change.boot, epoch, change.state, change.kind, change.severity, change.confidence,
        change.detector, change.title, change.first, change.last, utc, Data(change.json),
      ])
    try db.execute(
      sql: """
        INSERT INTO finding_change (host, epoch, entry, finding, state, severity, title, at, json)
        SELECT ?, ?, ?, number, ?, ?, ?, ?, ? FROM finding WHERE host = ? AND id = ? AND boot = ?
        """,
      arguments: [
        host, epoch, entry, change.state, change.severity, change.title, utc, Data(change.json), host,
        change.id, change.boot,
      ])
    if !change.isOpen { try Self.endAcknowledgements(db, of: host) }
  }

  /// Keeps what a check by the service itself has changed, in one transaction.
  ///
  /// - Parameters:
  ///   - changes: what is new, or not as it was.
  ///   - over: the ids of its findings that are seen no more.
  ///   - host: its name.
  ///   - utc: now, in seconds since 1970.
  /// - Returns: the last change of each that is over.
  /// - Throws: ``StoreError``: then nothing of it is kept.
  public func keepChecked(
    _ changes: [FindingChange], over: [String], of host: String, at utc: Double
  ) throws(StoreError) -> [FindingChange] {
    try write { db in
      let newest = try Int64.fetchOne(
        db, sql: "SELECT max(entry) FROM finding_change WHERE host = ? AND epoch = ?", arguments: [host, Self.ownEpoch])
      var entry = newest ?? 0
      var closed: [FindingChange] = []
      for id in over {
        for row in try Row.fetchAll(
          db, sql: "SELECT * FROM finding WHERE host = ? AND id = ? AND epoch = ? AND state <> 'closed'",
          arguments: [host, id, Self.ownEpoch])
        { closed.append(FindingChange(closing: Self.finding(row, acknowledgement: nil), at: utc)) }
      }
      for change in changes + closed {
        entry += 1
        try Self.keep(change, of: host, epoch: Self.ownEpoch, entry: entry, at: utc, db)
      }
      return closed
    }
  }

  /// Who has seen to a finding has not seen to it when it comes again.
  private static func endAcknowledgements(_ db: Database, of host: String) throws {
    try db.execute(
      sql: """
        UPDATE acknowledgement SET until = at
        WHERE finding IN (SELECT number FROM finding WHERE host = ? AND state = 'closed')
        """, arguments: [host])
  }

  /// Keeps a host's new state.
  public func keep(_ standing: Standing, of host: String, at utc: Double) throws(StoreError) {
    try write { db in
      try db.execute(
        sql: """
          INSERT INTO host (name, state, since, cause, before_state, before_since, before_cause) VALUES (?, ?, ?, ?, ?, ?, ?)
          ON CONFLICT (name) DO UPDATE SET state = excluded.state, since = excluded.since, cause = excluded.cause,
            before_state = excluded.before_state, before_since = excluded.before_since,
            before_cause = excluded.before_cause
          """,
        arguments: [
          host, standing.state.rawValue, standing.since, standing.cause, standing.before?.state.rawValue,
          standing.before?.since, standing.before?.cause,
        ])
      try db.execute(
        sql: "INSERT OR IGNORE INTO state_change (host, at, state, cause) VALUES (?, ?, ?, ?)",
        arguments: [host, utc, standing.state.rawValue, standing.cause])
    }
  }

  /// The newest changes of a host's state, newest first.
  public func states(of host: String, limit: Int = 100) throws(StoreError) -> [StateChange] {
    try read { db in
      try Row.fetchAll(
        db, sql: "SELECT at, state, cause FROM state_change WHERE host = ? ORDER BY at DESC, number DESC LIMIT ?",
        arguments: [host, limit]
      ).map { StateChange(at: $0["at"], state: $0["state"], cause: $0["cause"]) }
    }
  }

  // MARK: Findings

  /// Findings, those first that somebody has to look at soonest.
  ///
  /// - Parameters:
  ///   - host: only its; nil for all.
  ///   - isOpen: only those that are not over.
  ///   - now: in seconds since 1970: which acknowledgements hold.
  ///   - limit: how many at most.
  /// - Returns: them, as they were last.
  /// - Throws: ``StoreError`` where the database cannot be read.
  public func findings(of host: String? = nil, isOpen: Bool = false, now: Double, limit: Int = 500) throws(StoreError)
    -> [KeptFinding]
  {
    try read { db in
      try Row.fetchAll(
        db,
        sql: """
          SELECT f.*, a.who, a.comment, a.at, a.until FROM finding f
          LEFT JOIN acknowledgement a ON a.number = (
            SELECT max(number) FROM acknowledgement WHERE finding = f.number AND (until IS NULL OR until > ?))
          WHERE (?2 IS NULL OR f.host = ?2) AND (NOT ?3 OR f.state <> 'closed')
          ORDER BY f.state = 'closed', a.who IS NOT NULL,
            CASE f.severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 WHEN 'notice' THEN 2 ELSE 3 END, f.last DESC
          LIMIT ?4
          """, arguments: [now, host, isOpen, limit]
      ).map(Self.finding)
    }
  }

  /// A finding by its number in the database.
  public func finding(_ number: Int64, now: Double) throws(StoreError) -> KeptFinding? {
    try read { db in
      try Row.fetchOne(
        db,
        sql: """
          SELECT f.*, a.who, a.comment, a.at, a.until FROM finding f
          LEFT JOIN acknowledgement a ON a.number = (
            SELECT max(number) FROM acknowledgement WHERE finding = f.number AND (until IS NULL OR until > ?))
          WHERE f.number = ?
          """, arguments: [now, number]
      ).map(Self.finding)
    }
  }

  private static func finding(_ row: Row) -> KeptFinding {
    let acknowledgement = (row["who"] as String?).map { who in
      Acknowledgement(who: who, comment: row["comment"], at: row["at"], until: row["until"])
    }
    return finding(row, acknowledgement: acknowledgement)
  }

  private static func finding(_ row: Row, acknowledgement: Acknowledgement?) -> KeptFinding {
    KeptFinding(
      number: row["number"], host: row["host"], id: row["id"], boot: row["boot"], state: row["state"],
      kind: row["kind"], severity: row["severity"], confidence: row["confidence"], detector: row["detector"],
      title: row["title"], first: row["first"], last: row["last"], json: Array(row["json"] as Data),
      acknowledgement: acknowledgement)
  }

  /// How many entries of logs are kept of a host.
  public func changeCount(of host: String) throws(StoreError) -> Int {
    try read { db in
      try Int.fetchOne(db, sql: "SELECT count(*) FROM finding_change WHERE host = ?", arguments: [host]) ?? 0
    }
  }

  // MARK: People

  /// Keeps that somebody sees to a finding.
  ///
  /// - Returns: false where there is no such finding.
  public func acknowledge(_ finding: Int64, _ acknowledgement: Acknowledgement) throws(StoreError) -> Bool {
    try write { db in
      try db.execute(
        sql: """
          INSERT INTO acknowledgement (finding, who, comment, at, until) SELECT number, ?, ?, ?, ? FROM finding WHERE number = ?
          """,
        arguments: [
          acknowledgement.who, acknowledgement.comment, acknowledgement.at, acknowledgement.until, finding,
        ])
      return db.changesCount > 0
    }
  }

  /// Keeps a time in which nobody is told of a host.
  public func plan(
    _ host: String, from start: Double, until end: Double, who: String, comment: String
  ) throws(StoreError) {
    try write { db in
      try db.execute(
        sql: "INSERT INTO maintenance (host, who, comment, start, until) VALUES (?, ?, ?, ?, ?)",
        arguments: [host, who, comment, start, end])
    }
  }

  /// The times of maintenance that are not over, soonest first.
  public func maintenance(now: Double) throws(StoreError) -> [MaintenanceWindow] {
    try read { db in
      try Row.fetchAll(db, sql: "SELECT * FROM maintenance WHERE until > ? ORDER BY start", arguments: [now]).map {
        MaintenanceWindow(
          number: $0["number"], host: $0["host"], who: $0["who"], comment: $0["comment"], from: $0["start"],
          until: $0["until"])
      }
    }
  }

  /// Ends a time of maintenance, or takes one back that has not begun.
  ///
  /// - Returns: the host that it is of; nil where there is none of that number that is not over.
  public func endMaintenance(_ number: Int64, now: Double) throws(StoreError) -> String? {
    try write { db in
      let host = try String.fetchOne(
        db, sql: "SELECT host FROM maintenance WHERE number = ? AND until > ?", arguments: [number, now])
      try db.execute(
        sql: "UPDATE maintenance SET until = ?, start = min(start, ?) WHERE number = ? AND until > ?",
        arguments: [now, now, number, now])
      return host
    }
  }

  // MARK: Images

  /// Keeps an image that was asked for, or what became of it.
  ///
  /// - Returns: its number, which it gets where it is 0.
  public func keep(_ request: ImageRequest) throws(StoreError) -> Int64 {
    try write { db in
      try db.execute(
        sql: """
          INSERT INTO image (number, host, who, reason, rule, level, state, asked, ended, total, image, stored, problem)
          VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
          ON CONFLICT (number) DO UPDATE SET state = excluded.state, ended = excluded.ended, total = excluded.total,
            image = excluded.image, stored = excluded.stored, problem = excluded.problem
          """,
        arguments: [
          request.number == 0 ? nil : request.number, request.host, request.who, request.reason, request.rule,
          request.level, request.state.rawValue, request.asked, request.ended, Int64(clamping: request.total),
          request.image, Int64(clamping: request.stored), request.problem,
        ])
      return request.number == 0 ? db.lastInsertedRowID : request.number
    }
  }

  /// Images that were asked for, the newest first; only a host's, or of all for nil.
  public func images(of host: String? = nil, limit: Int = 100) throws(StoreError) -> [ImageRequest] {
    try read { db in
      try Row.fetchAll(
        db, sql: "SELECT * FROM image WHERE ?1 IS NULL OR host = ?1 ORDER BY number DESC LIMIT ?2",
        arguments: [host, limit]
      ).map { row in
        var request = ImageRequest(
          number: row["number"], host: row["host"], who: row["who"], reason: row["reason"], rule: row["rule"],
          level: row["level"], state: .init(rawValue: row["state"]) ?? .failed, asked: row["asked"],
          ended: row["ended"])
        request.total = UInt64(clamping: row["total"] as Int64)
        request.stored = UInt64(clamping: row["stored"] as Int64)
        if request.state == .done { request.done = request.total }
        (request.image, request.problem) = (row["image"], row["problem"])
        return request
      }
    }
  }

  /// How many images of a host a rule has asked for since then, those that failed left out.
  func imageCount(of host: String, rule: String, since utc: Double) throws(StoreError) -> Int {
    try read { db in
      try Int.fetchOne(
        db, sql: "SELECT count(*) FROM image WHERE host = ? AND rule = ? AND asked > ? AND state <> 'failed'",
        arguments: [host, rule, utc]) ?? 0
    }
  }

  /// Says of all images that are not over that they failed.
  func endImages(problem: String, at utc: Double) throws(StoreError) {
    try write { db in
      try db.execute(
        sql: "UPDATE image SET state = 'failed', problem = ?, ended = ? WHERE state IN ('waiting', 'running')",
        arguments: [problem, utc])
    }
  }

  /// Keeps who looked at what.
  public func note(_ what: String, by who: String, from address: String, at utc: Double) throws(StoreError) {
    try write { db in
      try db.execute(
        sql: "INSERT INTO visit (at, who, address, what) VALUES (?, ?, ?, ?)", arguments: [utc, who, address, what])
    }
  }

  /// Who looked at what, the newest first.
  public func visits(limit: Int = 200) throws(StoreError) -> [(at: Double, who: String, address: String, what: String)]
  {
    try read { db in
      try Row.fetchAll(
        db, sql: "SELECT at, who, address, what FROM visit ORDER BY number DESC LIMIT ?", arguments: [limit]
      ).map { ($0["at"], $0["who"], $0["address"], $0["what"]) }
    }
  }

  // MARK: Last words

  /// Keeps a kernel's last words as people read them.
  public func keepWords(_ text: String, line: String, of host: String, boot: String, taken: Double) throws(StoreError) {
    try write { db in
      try db.execute(
        sql: "INSERT OR REPLACE INTO last_words (host, boot, taken, line, text) VALUES (?, ?, ?, ?, ?)",
        arguments: [host, boot, taken, line, text])
    }
  }

  /// A host's newest last words; nil where there are none.
  public func words(of host: String) throws(StoreError) -> (line: String, text: String)? {
    try read { db in
      try Row.fetchOne(
        db, sql: "SELECT line, text FROM last_words WHERE host = ? ORDER BY taken DESC LIMIT 1", arguments: [host]
      ).map { ($0["line"], $0["text"]) }
    }
  }

  // MARK: Size and time

  /// Lets the database have so many pages of 4 KiB: with few of them it is as on a full disk.
  func limitPages(_ count: Int) throws(StoreError) {
    do {
      try pool.writeWithoutTransaction { db in
        _ = try Int.fetchOne(db, sql: "PRAGMA max_page_count = \(count)")
      }
    } catch {
      throw Self.reason(error, path)
    }
  }

  /// Forgets what is older than so many days and over.
  public func forget(olderThan days: Double, now: Double) throws(StoreError) {
    let limit = now - days * 86400
    try write { db in
      try db.execute(
        sql: """
          DELETE FROM finding_change WHERE at < ?1 AND finding IN (
            SELECT number FROM finding WHERE state = 'closed' AND kept < ?1)
          """, arguments: [limit])
      try db.execute(
        sql: """
          DELETE FROM finding WHERE state = 'closed' AND kept < ?1
            AND NOT EXISTS (SELECT 1 FROM finding_change WHERE finding = finding.number)
          """, arguments: [limit])
      try db.execute(sql: "DELETE FROM acknowledgement WHERE finding NOT IN (SELECT number FROM finding)")
      for (table, column) in [
        ("state_change", "at"), ("visit", "at"), ("maintenance", "until"), ("last_words", "taken"),
        ("image", "asked"),
      ] {
        try db.execute(sql: "DELETE FROM \(table) WHERE \(column) < ?", arguments: [limit])
      }
    }
  }
}

extension Bool? {
  /// What `EXISTS` gives is never null.
  fileprivate var unwrapped: Bool { self ?? false }
}
