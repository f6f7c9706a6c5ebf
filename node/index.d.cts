/** Memory at one moment, in MB (1024 * 1024 bytes). */
export interface MemoryUsage {
  /**
   * Under seqsup this is not RSS: it is the figure that memory.soft and memory.hard limit, of the agent with all its
   * processes. By default that is their private and shared memory, without program text and page cache, so it may be
   * lower than the RSS of this process alone. Elsewhere: RSS of this process.
   */
  rss: number;
  /** V8's heap in use. Under seqsup: of all Node processes of the agent together, as the next two. */
  heapUsed: number;
  heapTotal: number;
  /** Memory that JavaScript holds outside V8's heap, such as Buffers. */
  external: number;
  /** "seqsup": the figures are of the agent. "process": they are of this process only. */
  source: "seqsup" | "process";
  /** Why the figures are of this process only, or what else is not known; empty if there is nothing to say. */
  why: string;
}

/** Result of a cleanup; sizes in MB. */
export interface Cleanup {
  /** RSS that the Node processes gave back, added up. It is not `before.rss` less `after.rss`. */
  freed: number;
  /** Whether a Node process collected. If none did, or this one did not, `why` says why. */
  gcAvailable: boolean;
  before: MemoryUsage;
  after: MemoryUsage;
  source: "seqsup" | "process";
  why: string;
}

/** Text that an agent leaves for others. */
export interface Entry {
  /** Short text for later agents, up to 16 KiB. It replaces the last one. */
  summary?: string | null;
  /** Text of any length. It is appended to details.md. */
  details?: string | null;
}

/** Return memory now. Under seqsup it waits up to 2 seconds for the supervisor, which answers in milliseconds. */
export function getMemoryUsage(): MemoryUsage;

/**
 * Print one line such as `[Before] Memory: 2456MB, Heap: 1823/2048MB, External: 45MB (…)` on stdout, and return its
 * figures. In brackets at the end it says of which processes they are. `RSS:` instead of `Memory:` is that of this
 * process only. Characters of the label that are not printable become blanks. TypeError: a label that is not text.
 */
export function logMemoryUsage(label?: string | null): MemoryUsage;

/** Return whether `rss` is more than `mb` MB. RangeError: below 0, or bytes instead of MB. Default: 6144. */
export function isMemoryHigh(mb?: number): boolean;

/**
 * Collect garbage in this process at once, if it has `gc()`. Under seqsup the agent's other Node processes are asked
 * too, and not waited for. False: this process has no `gc()`, and seqsup does not run it.
 */
export function forceGC(): boolean;

/**
 * Wait until `rss` is at most `mb` MB; false after `maxWaitMs`. It looks every `everyMs`, and once at least.
 * Defaults: 4096 MB, 30000 ms, 1000 ms. RangeError: below 0, `everyMs` below 1, or bytes instead of MB.
 */
export function waitForMemoryCleanup(mb?: number, maxWaitMs?: number, everyMs?: number): Promise<boolean>;

/**
 * Collect garbage in all Node processes of the agent (without seqsup: in this one), and wait for it up to 15 s.
 * The first call waits up to 2 s until seqsup knows this process.
 */
export function cleanupBetweenAgents(): Promise<Cleanup>;

/**
 * Store text as `agent`. Its own name, $SEQSUP_AGENT, means the agent's artifacts. Any other name is that of a
 * sub-agent, and means a folder in them. Without seqsup they are in .seqsup-artifacts in the working folder.
 * TypeError: a value of a wrong type, an unknown key, or nothing to store. RangeError: a name that is none, or a
 * summary above 16 KiB. Error, with a `code`: a file that cannot be stored.
 */
export function appendToScratchpad(agent: string, entry: Entry): Promise<void>;

/**
 * Return the summary of this agent, of a sub-agent, or of an earlier agent of the run. If that agent stored none: the
 * last 4000 bytes of its output. "": there is neither, or no agent of this name.
 */
export function readAgentSummary(agent: string): Promise<string>;
