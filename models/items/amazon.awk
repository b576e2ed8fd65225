# Named fields from the items files of the S3-Rec authors' Amazon sets (item_id, external_id, "brand | category | ..."):
#   awk -f models/items/amazon.awk items_Beauty.tsv > items.csv; intent prep Beauty.txt --items items.csv --out DATASET
# The first name is the brand, unless 20 items or more have it in the second place: then it is a category, and
# there is no brand.  A category that every item has says nothing and is left out; of the others the first three are kept.
BEGIN { FS = "\t"; print "item_id,brand,category1,category2,category3" }
function quoted(s) { gsub(/"/, "\"\"", s); return "\"" s "\"" }
NR == 1 { next }
{
    id[++items] = $1
    names[items] = $3
    n = split($3, name, / \| /)
    if (n > 1) second[name[2]]++
}
END {
    for (i = 1; i <= items; i++) {
        n = split(names[i], name, / \| /)
        at = second[name[1]] >= 20 ? 1 : 2
        brand = at == 2 && name[1] != "Unknown" ? name[1] : ""
        line = id[i] "," quoted(brand)
        written = 0
        for (k = at; k <= n && written < 3; k++) {
            if (second[name[k]] > .99 * items) continue
            line = line "," quoted(name[k])
            written++
        }
        while (written++ < 3) line = line ","
        print line
    }
}
