# Fields of MovieLens films, the year and the decade from their titles, tags as people wrote them:
#   awk -f models/items/movielens.awk tags.csv movies.csv > items.csv
# Tags are in lower case; `|` separates several.  Nearly every film has tags of its own, so prep wants to be asked for them:
#   intent prep ratings.csv --items items.csv --fields genres,year,decade,tags --out DATASET
BEGIN { FS = "," }
FNR == 1 { files++; if (files == 2) print "movieId,title,genres,year,decade,tags"; next }
files == 1 {
    tag = tolower($0)
    sub(/^[^,]*,[^,]*,/, "", tag)
    sub(/,[0-9]*\r?$/, "", tag)
    gsub(/["|,]/, " ", tag)
    if (!((($2), tag) in seen)) tags[$2] = tags[$2] (tags[$2] == "" ? "" : "|") tag
    seen[$2, tag] = 1
    next
}
{
    sub(/\r$/, "")
    year = ""
    if (match($0, /\([0-9][0-9][0-9][0-9]\)[ "]*,[^,]*$/)) year = substr($0, RSTART + 1, 4)
    print $0 "," year "," (year == "" ? "" : substr(year, 1, 3) "0s") "," tags[$1]
}
